// What a declaration is marked with that applications, plug-ins or the program use: all else is hidden in the library.
#pragma once

#define HALFSTEP_API __attribute__((visibility("default")))
