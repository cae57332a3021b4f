// Marks declarations used by applications, plug-ins or the program. All other symbols are hidden in the library.
#pragma once

#ifdef __clang__  // which takes no attributes of the older form on a namespace
#define HALFSTEP_API [[gnu::visibility("default")]]
#else
#define HALFSTEP_API __attribute__((visibility("default")))
#endif
