// Standard input, output and error as a program may find them: closed, full, or gone with their terminal.
#pragma once

namespace halfstep::cli {

/// Opens those of the descriptors 0, 1 and 2 that are closed, so that no file which is opened later takes their place
/// and is written to by what prints: they lead nowhere, and writing to them fails as before. To be called first in
/// main.
void keep_standard_descriptors();

/// Throws Error(failure) unless all that was printed to stdout has been written: output is what was asked for. What
/// stderr does not take is no failure.
void check_output_written();

}  // namespace halfstep::cli
