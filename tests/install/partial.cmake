# Runs the install rules of the folders that may not have been built (cmake --install after a build of some targets), as
# if they had not been: with EMPTY in place of the folder BUILD.
file(REMOVE_RECURSE ${EMPTY})
foreach(part cli executors/cudnn distributed/mpi)
  if(EXISTS ${BUILD}/${part}/cmake_install.cmake)
    file(READ ${BUILD}/${part}/cmake_install.cmake rules)
    string(REPLACE "${BUILD}" "${EMPTY}" rules "${rules}")
    file(WRITE ${EMPTY}/${part}/cmake_install.cmake "${rules}")
    execute_process(COMMAND ${CMAKE_COMMAND} -DCMAKE_INSTALL_PREFIX=${EMPTY}/prefix -P ${EMPTY}/${part}/cmake_install.cmake
                    COMMAND_ERROR_IS_FATAL ANY)
  endif()
endforeach()
file(GLOB_RECURSE installed ${EMPTY}/prefix/*)
if(installed)
  message(FATAL_ERROR "installed from a folder that has nothing: ${installed}")
endif()
