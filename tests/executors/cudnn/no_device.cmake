# Writes SOURCE: a library with all functions of the driver's library STUB, which find no device. Where it stands for
# libcuda.so.1, cuDNN plans kernels that it compiles at run time on a machine without a driver.
execute_process(COMMAND ${NM} -D --defined-only ${STUB} OUTPUT_VARIABLE symbols COMMAND_ERROR_IS_FATAL ANY)
string(REGEX MATCHALL " T cu[A-Za-z0-9_]+" symbols "${symbols}")
list(TRANSFORM symbols REPLACE " T " "")
list(REMOVE_DUPLICATES symbols)
list(REMOVE_ITEM symbols cuDeviceGetCount)
set(no_device 100) # CUDA_ERROR_NO_DEVICE
set(text "#pragma GCC visibility push(default)\nextern \"C\" {\nint cuDeviceGetCount(int* count) {\n  *count = 0;\n  return 0;\n}\n")
foreach(symbol ${symbols})
  string(APPEND text "int ${symbol}() { return ${no_device}; }\n")
endforeach()
file(WRITE ${SOURCE} "${text}}\n")
