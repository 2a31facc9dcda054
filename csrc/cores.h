// Where threads run that help another one.
//
// A kernel likes to start a thread on the core of the one that starts it, and looks for another core milliseconds
// later, when the work is done: two threads then take as long as one (seen with Linux on a virtual machine).
#pragma once

#include <thread>
#include <vector>

namespace uperfuse {

// Numbers of cores as the operating system counts them; empty for those of the calling thread.
using Cores = std::vector<int>;

// The cores of `allowed` without the one that the calling thread is on. Empty where nothing is left, or where the
// system does not tell.
Cores cores_beside(const Cores& allowed);

// Keeps a thread on `cores`, if there are any and the system can; it stays where it is otherwise.
void keep_on(std::thread& thread, const Cores& cores);

}  // namespace uperfuse
