#include "capture.h"

#include <algorithm>
#include <utility>

namespace simulated {

void add_node(Stream* stream, const std::string& what, Action action) {
  std::vector<Node>& nodes = stream->capture->graph->nodes;
  nodes.push_back({what, stream->frontier, std::move(action)});
  stream->frontier = {nodes.size() - 1};
}

std::vector<std::size_t> merged(std::vector<std::size_t> left, const std::vector<std::size_t>& right) {
  left.insert(left.end(), right.begin(), right.end());
  std::sort(left.begin(), left.end());
  left.erase(std::unique(left.begin(), left.end()), left.end());
  return left;
}

bool leads_to(const Graph& graph, const std::vector<std::size_t>& wanted, const std::vector<std::size_t>& ends) {
  std::vector<bool> reached(graph.nodes.size(), false);
  for (const std::size_t end : ends) reached[end] = true;
  // a node comes after nodes with smaller numbers only
  for (std::size_t i = graph.nodes.size(); i-- > 0;) {
    if (!reached[i]) continue;
    for (const std::size_t before : graph.nodes[i].after) reached[before] = true;
  }
  return std::all_of(wanted.begin(), wanted.end(), [&](std::size_t node) { return reached[node]; });
}

void close(Capture* capture, const Handles<CUstream, Stream>& streams) {
  capture->open = false;
  for (const auto& [handle, stream] : streams.all()) {
    if (stream->capture.get() != capture) continue;
    stream->capture = nullptr;
    stream->frontier.clear();
  }
}

CUresult run_nodes(const std::vector<Node>& nodes, bool last_first) {
  std::vector<bool> done(nodes.size(), false);
  for (std::size_t left = nodes.size(); left > 0; --left) {
    std::size_t chosen = nodes.size();
    for (std::size_t i = 0; i < nodes.size(); ++i) {
      const auto& after = nodes[i].after;
      const bool ready = !done[i] && std::all_of(after.begin(), after.end(), [&](std::size_t n) { return done[n]; });
      if (ready && (last_first || chosen == nodes.size())) chosen = i;
    }
    const CUresult result = nodes[chosen].action ? nodes[chosen].action() : CUDA_SUCCESS;
    driver().executed(nodes[chosen].what);
    if (result != CUDA_SUCCESS) return result;
    done[chosen] = true;
  }
  return CUDA_SUCCESS;
}

CUstreamCaptureMode& thread_capture_mode() {
  thread_local CUstreamCaptureMode mode = CU_STREAM_CAPTURE_MODE_GLOBAL;
  return mode;
}

}  // namespace simulated
