# cmake -DFILE=LIBRARY -DOLD=RUNPATH -P OwnFolderRunpath.cmake: the library looks for others in its own folder alone.
file(RPATH_CHANGE FILE ${FILE} OLD_RPATH "${OLD}" NEW_RPATH "$ORIGIN")
