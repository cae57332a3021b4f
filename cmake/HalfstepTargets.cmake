# Warnings, sanitizers, halfstep_part: the object library of one folder, and halfstep_library: what is made of them.
if(CMAKE_CXX_COMPILER_ID STREQUAL GNU)
  set(HALFSTEP_WARNINGS -Wall -Wextra -Wshadow=local -Wno-unused-parameter -Wno-restrict)
else()
  set(HALFSTEP_WARNINGS -Wall -Wextra -Wno-unused-parameter)
endif()

add_library(halfstep_options INTERFACE)
target_compile_options(halfstep_options INTERFACE ${HALFSTEP_WARNINGS})
if(HALFSTEP_SANITIZE)
  # -O1 compiles as fast as an ordinary build does. Checks of each pointer's value would cost half as much again, and
  # find little that a crash does not show.
  set(HALFSTEP_SANITIZE_OPTIONS
    $<$<COMPILE_LANGUAGE:CXX>:-O1>
    $<$<COMPILE_LANGUAGE:CXX>:-g1>
    $<$<COMPILE_LANGUAGE:CXX>:-fsanitize=${HALFSTEP_SANITIZE}>
    $<$<COMPILE_LANGUAGE:CXX>:-fno-sanitize=null,vptr,object-size,alignment>
    $<$<COMPILE_LANGUAGE:CXX>:-fno-sanitize-recover=all>
    $<$<COMPILE_LANGUAGE:CXX>:-fno-omit-frame-pointer>
    $<$<COMPILE_LANGUAGE:CXX>:-D_GLIBCXX_ASSERTIONS>)
  add_compile_options(${HALFSTEP_SANITIZE_OPTIONS})
  add_link_options(-fsanitize=${HALFSTEP_SANITIZE})
endif()
if(HALFSTEP_FUZZ)
  if(NOT CMAKE_CXX_COMPILER_ID MATCHES Clang OR NOT HALFSTEP_TESTS OR NOT HALFSTEP_SANITIZE)
    message(FATAL_ERROR "HALFSTEP_FUZZ: expected clang, HALFSTEP_TESTS and HALFSTEP_SANITIZE; script/fuzz sets them")
  endif()
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()

# Optimizing costs a third of the compile time. -O3 is for loops over elements; what else a Release build holds is not
# worth it: -O2 for the library's other parts, -O1 for the program and the tests.
add_library(halfstep_optimize_less INTERFACE)
if(NOT HALFSTEP_SANITIZE)
  target_compile_options(halfstep_optimize_less INTERFACE $<$<CONFIG:Release>:-O2>)
endif()
add_library(halfstep_optimize_little INTERFACE)
target_compile_options(halfstep_optimize_little INTERFACE $<$<CONFIG:Release,RelWithDebInfo>:-O1>)

# halfstep_part(NAME [KERNELS] SOURCES file... [LINK target...])
# Compiles the folder's sources into halfstep_NAME and adds them to the halfstep library. KERNELS: they compute on tensors.
function(halfstep_part name)
  cmake_parse_arguments(ARG "KERNELS" "" "SOURCES;LINK" ${ARGN})
  add_library(halfstep_${name} OBJECT ${ARG_SOURCES})
  if(NOT ARG_KERNELS)
    target_link_libraries(halfstep_${name} PRIVATE halfstep_optimize_less)
  endif()
  target_link_libraries(halfstep_${name} PRIVATE halfstep_options ${ARG_LINK})
  set_property(GLOBAL APPEND PROPERTY HALFSTEP_PARTS $<TARGET_OBJECTS:halfstep_${name}>)
endfunction()

# The build tree has the layout of an installation, so that one RUNPATH serves both: CMake's own for the build tree ends
# in an empty entry where it is to be replaced on installation, and the loader takes that for the current folder.
set(HALFSTEP_BUILD_LIBDIR ${PROJECT_BINARY_DIR}/${CMAKE_INSTALL_LIBDIR})

# halfstep_library(NAME source...): the shared library libhalfstep (NAME halfstep) or libhalfstep_NAME, to be linked as
# halfstep::NAME.
function(halfstep_library name)
  set(target halfstep)
  if(NOT name STREQUAL "halfstep")
    set(target halfstep_${name})
  endif()
  add_library(${target} SHARED ${ARGN})
  add_library(halfstep::${name} ALIAS ${target})
  # Static libraries and templates of other libraries do not know of HALFSTEP_API.
  halfstep_export_only(${target} ${PROJECT_SOURCE_DIR}/cmake/library.map)
  set_target_properties(${target} PROPERTIES
    EXPORT_NAME ${name} VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR}
    LIBRARY_OUTPUT_DIRECTORY ${HALFSTEP_BUILD_LIBDIR} BUILD_WITH_INSTALL_RPATH ON INSTALL_RPATH "$ORIGIN")
endfunction()

# halfstep_export_only(TARGET MAP): of what has default visibility, the linked file exports what MAP lists.
function(halfstep_export_only target map)
  target_link_options(${target} PRIVATE -Wl,--exclude-libs,ALL -Wl,--version-script=${map})
  set_property(TARGET ${target} APPEND PROPERTY LINK_DEPENDS ${map})
endfunction()

# halfstep_plugin(NAME SOURCES item... [LINK item...] [RPATH folder...]): the plug-in library libhalfstep-NAME, where the
# library looks for it. It need not have been built: the library works without.
function(halfstep_plugin name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINK;RPATH" ${ARGN})
  add_library(halfstep_${name} MODULE ${ARG_SOURCES})
  target_link_libraries(halfstep_${name} PRIVATE halfstep ${ARG_LINK})
  halfstep_export_only(halfstep_${name} ${PROJECT_SOURCE_DIR}/cmake/plugin.map)
  set(rpath $ORIGIN ${ARG_RPATH})
  set_target_properties(halfstep_${name} PROPERTIES
    OUTPUT_NAME halfstep-${name} LIBRARY_OUTPUT_DIRECTORY ${HALFSTEP_BUILD_LIBDIR} BUILD_WITH_INSTALL_RPATH ON
    INSTALL_RPATH "${rpath}")
  if(HALFSTEP_INSTALL)
    install(TARGETS halfstep_${name} LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} OPTIONAL)
  endif()
endfunction()
