// Standard input, output and error that may be closed, full, or without their terminal.
#pragma once

namespace halfstep::cli {

/// Opens those of the descriptors 0, 1 and 2 that are closed, so that no file opened later gets their number and
/// receives printed text: they lead nowhere, and writing to them still fails. Must be called first in main.
void keep_standard_descriptors();

/// Throws Error(failure) unless everything printed to stdout has been written: output is the requested result. A
/// failure to write to stderr is not an error.
void check_output_written();

}  // namespace halfstep::cli
