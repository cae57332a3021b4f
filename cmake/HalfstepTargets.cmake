# Warnings, sanitizers, and halfstep_part: the object library of one folder.
set(HALFSTEP_WARNINGS -Wall -Wextra -Wshadow=local -Wno-unused-parameter -Wno-restrict)

add_library(halfstep_options INTERFACE)
target_compile_options(halfstep_options INTERFACE ${HALFSTEP_WARNINGS})
if(HALFSTEP_SANITIZE)
  add_compile_options(-fsanitize=${HALFSTEP_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${HALFSTEP_SANITIZE})
endif()

# halfstep_part(NAME SOURCES file... [LINK target...])
# Compiles the folder's sources into halfstep_NAME and adds them to the halfstep library.
function(halfstep_part name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINK" ${ARGN})
  add_library(halfstep_${name} OBJECT ${ARG_SOURCES})
  target_include_directories(halfstep_${name} PRIVATE ${PROJECT_SOURCE_DIR})
  target_link_libraries(halfstep_${name} PRIVATE halfstep_options ${ARG_LINK})
  set_property(GLOBAL APPEND PROPERTY HALFSTEP_PARTS $<TARGET_OBJECTS:halfstep_${name}>)
endfunction()
