# install: the libraries, their headers, the program, and the files find_package(halfstep) needs.
include(CMakePackageConfigHelpers)
set(HALFSTEP_CMAKE_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/halfstep)

# A oneDNN that came as a wheel is installed beside the library, so that what is installed does not need this clone.
if(HALFSTEP_DNNL_LIBRARY)
  install(FILES ${HALFSTEP_DNNL_LIBRARY} DESTINATION ${CMAKE_INSTALL_LIBDIR} RENAME libdnnl.so.3)
endif()

install(TARGETS halfstep halfstep_conformance EXPORT halfstep-targets LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(EXPORT halfstep-targets NAMESPACE halfstep:: DESTINATION ${HALFSTEP_CMAKE_DIR})
install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/halfstep DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})

write_basic_package_version_file(${PROJECT_BINARY_DIR}/halfstep-config-version.cmake COMPATIBILITY SameMinorVersion)
set(licenses ${CMAKE_INSTALL_DATADIR}/doc/halfstep/licenses)
install(DIRECTORY ${HALFSTEP_LICENSE_FOLDER}/ DESTINATION ${licenses} OPTIONAL)
configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/halfstep-config.cmake.in ${PROJECT_BINARY_DIR}/halfstep-config.cmake
                              INSTALL_DESTINATION ${HALFSTEP_CMAKE_DIR} PATH_VARS licenses)
install(FILES ${PROJECT_BINARY_DIR}/halfstep-config.cmake ${PROJECT_BINARY_DIR}/halfstep-config-version.cmake
        DESTINATION ${HALFSTEP_CMAKE_DIR})
