// A library that has the name of a plug-in, and nothing in it.
extern "C" __attribute__((visibility("default"))) int something_else() { return 1; }
