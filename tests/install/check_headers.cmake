# cmake -DCOMPILER=g++ -DINCLUDE=DIR -DWORK=DIR -P check_headers.cmake: fails unless every installed header compiles by
# itself, in an application that has headers called as halfstep's own are in its sources.
file(GLOB_RECURSE headers RELATIVE ${INCLUDE} ${INCLUDE}/halfstep/*.h)
if(NOT headers)
  message(FATAL_ERROR "no header below ${INCLUDE}/halfstep")
endif()
file(REMOVE_RECURSE ${WORK})
foreach(header ${headers})
  string(REGEX REPLACE "^halfstep/" "" name ${header})
  file(WRITE ${WORK}/${name} "#error this is the application's ${name}\n")
  file(WRITE ${WORK}/use.cpp "#include <${header}>\n")
  execute_process(COMMAND ${COMPILER} -std=c++20 -fsyntax-only -Wall -Wextra -Wno-unused-parameter -Werror
                          -I${WORK} -I${INCLUDE} ${WORK}/use.cpp
                  RESULT_VARIABLE failed ERROR_VARIABLE text)
  if(failed)
    message(SEND_ERROR "${header} does not compile by itself:\n${text}")
  endif()
endforeach()
list(LENGTH headers count)
message(STATUS "${count} headers checked")
