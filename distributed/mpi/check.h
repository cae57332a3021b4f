// Errors of MPI.
#pragma once

namespace halfstep::mpi {

/// Throws Error(failure) with MPI's own words unless `code` is success.
void check(int code, const char* call);

}  // namespace halfstep::mpi
