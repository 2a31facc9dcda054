// Streams that record instead of running: the graph grows by a node per operation.
#pragma once

#include <cuda.h>

#include <string>
#include <vector>

#include "driver.h"

namespace simulated {

// A node after what the stream captured so far.
void add_node(Stream* stream, const std::string& what, Action action);

// Both sets of nodes, each once.
std::vector<std::size_t> merged(std::vector<std::size_t> left, const std::vector<std::size_t>& right);

// Whether all nodes `wanted` come before `ends`, or are among them.
bool leads_to(const Graph& graph, const std::vector<std::size_t>& wanted, const std::vector<std::size_t>& ends);

// Takes all streams out of a capture.
void close(Capture* capture, const Handles<CUstream, Stream>& streams);

// Carries a graph's nodes out, each after those that it depends on; of those that may run, the first, or the last.
CUresult run_nodes(const std::vector<Node>& nodes, bool last_first);

// How this thread wants to be watched: see cuThreadExchangeStreamCaptureMode.
CUstreamCaptureMode& thread_capture_mode();

}  // namespace simulated
