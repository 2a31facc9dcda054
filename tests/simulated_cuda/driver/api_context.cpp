// Entry points about contexts: the primary one, others, and which is current on a thread.
#include <cuda.h>

#include <utility>

#include "call.h"

using namespace simulated;

namespace {

constexpr Rules kStack{false, false, false, false};
constexpr Rules kStackGivesBack{false, false, false, true};

CUcontext handle_of(const std::shared_ptr<Context>& context) {
  return context ? reinterpret_cast<CUcontext>(context->handle) : nullptr;
}

std::shared_ptr<Context> context_of(Call& call, CUcontext handle) {
  const std::shared_ptr<Context> found = call.driver.contexts.find(handle);
  if (!found) call.misuse(CUDA_ERROR_INVALID_CONTEXT, "the context was destroyed or never made");
  return found;
}

CUresult create(Call& call, CUcontext* context, CUdevice device) {
  call.demand(device == 0, CUDA_ERROR_INVALID_DEVICE);
  current_contexts().push_back(call.driver.make_context(false));
  *context = handle_of(current_contexts().back());
  return CUDA_SUCCESS;
}

CUresult destroy(Call& call, CUcontext handle) {
  const std::shared_ptr<Context> context = context_of(call, handle);
  if (context->primary) call.misuse(CUDA_ERROR_INVALID_CONTEXT, "the primary context is released, not destroyed");
  call.driver.destroy(context);
  auto& stack = current_contexts();
  if (!stack.empty() && stack.back() == context) stack.pop_back();
  return CUDA_SUCCESS;
}

}  // namespace

extern "C" {

CUresult CUDAAPI cuDevicePrimaryCtxRetain(CUcontext* context, CUdevice device) {
  return call("cuDevicePrimaryCtxRetain", kNoContext, [&](Call& call) {
    call.demand(device == 0, CUDA_ERROR_INVALID_DEVICE);
    Driver& driver = call.driver;
    if (!driver.primary) driver.primary = driver.make_context(true);
    ++driver.retained;
    *context = handle_of(driver.primary);
    return CUDA_SUCCESS;
  });
}

CUresult CUDAAPI cuDevicePrimaryCtxRelease(CUdevice device) {
  return call("cuDevicePrimaryCtxRelease", kContextGivesBack, [&](Call& call) {
    call.demand(device == 0, CUDA_ERROR_INVALID_DEVICE);
    Driver& driver = call.driver;
    if (driver.retained == 0) call.misuse(CUDA_ERROR_INVALID_CONTEXT, "released more often than retained");
    if (--driver.retained == 0 && driver.primary) driver.destroy(std::exchange(driver.primary, nullptr));
    return CUDA_SUCCESS;
  });
}

CUresult CUDAAPI cuDevicePrimaryCtxReset(CUdevice device) {
  return call("cuDevicePrimaryCtxReset", kContextGivesBack, [&](Call& call) {
    call.demand(device == 0, CUDA_ERROR_INVALID_DEVICE);
    if (call.driver.primary) call.driver.destroy(std::exchange(call.driver.primary, nullptr));
    return CUDA_SUCCESS;
  });
}

CUresult CUDAAPI cuDevicePrimaryCtxGetState(CUdevice device, unsigned int* flags, int* active) {
  return call("cuDevicePrimaryCtxGetState", kNoContext, [&](Call& call) {
    call.demand(device == 0, CUDA_ERROR_INVALID_DEVICE);
    *flags = call.driver.primary_flags;
    *active = call.driver.primary ? 1 : 0;
    return CUDA_SUCCESS;
  });
}

CUresult CUDAAPI cuDevicePrimaryCtxSetFlags(CUdevice device, unsigned int flags) {
  return call("cuDevicePrimaryCtxSetFlags", kNoContext, [&](Call& call) {
    call.demand(device == 0, CUDA_ERROR_INVALID_DEVICE);
    call.driver.primary_flags = flags;
    return CUDA_SUCCESS;
  });
}

CUresult CUDAAPI cuCtxCreate_v2(CUcontext* context, unsigned int, CUdevice device) {
  return call("cuCtxCreate", kNoContext, [&](Call& call) { return create(call, context, device); });
}

CUresult CUDAAPI cuCtxCreate_v4(CUcontext* context, CUctxCreateParams*, unsigned int, CUdevice device) {
  return call("cuCtxCreate", kNoContext, [&](Call& call) { return create(call, context, device); });
}

CUresult CUDAAPI cuCtxDestroy(CUcontext context) {
  return call("cuCtxDestroy", kContextGivesBack, [&](Call& call) { return destroy(call, context); });
}

CUresult CUDAAPI cuCtxDetach(CUcontext context) {
  return call("cuCtxDetach", kContextGivesBack, [&](Call& call) { return destroy(call, context); });
}

CUresult CUDAAPI cuCtxPushCurrent(CUcontext context) {
  return call("cuCtxPushCurrent", kStack, [&](Call& call) {
    current_contexts().push_back(context_of(call, context));
    return CUDA_SUCCESS;
  });
}

CUresult CUDAAPI cuCtxPopCurrent(CUcontext* context) {
  return call("cuCtxPopCurrent", kStackGivesBack, [&](Call& call) {
    auto& stack = current_contexts();
    if (stack.empty()) call.misuse(CUDA_ERROR_INVALID_CONTEXT, "no context is current");
    if (context != nullptr) *context = handle_of(stack.back());
    stack.pop_back();
    return CUDA_SUCCESS;
  });
}

CUresult CUDAAPI cuCtxSetCurrent(CUcontext context) {
  return call("cuCtxSetCurrent", kStack, [&](Call& call) {
    auto& stack = current_contexts();
    if (!stack.empty()) stack.pop_back();
    if (context != nullptr) stack.push_back(context_of(call, context));
    return CUDA_SUCCESS;
  });
}

CUresult CUDAAPI cuCtxGetCurrent(CUcontext* context) {
  return call("cuCtxGetCurrent", kStack, [&](Call& call) {
    call.demand(context != nullptr);
    *context = current_contexts().empty() ? nullptr : handle_of(current_contexts().back());
    return CUDA_SUCCESS;
  });
}

CUresult CUDAAPI cuCtxGetId(CUcontext context, unsigned long long* id) {
  return call("cuCtxGetId", kStack, [&](Call& call) {
    if (context == nullptr && !current_contexts().empty()) context = handle_of(current_contexts().back());
    // a question whether a context is still there, so that asking is no mistake
    const std::shared_ptr<Context> found = call.driver.contexts.find(context);
    call.demand(found != nullptr, CUDA_ERROR_CONTEXT_IS_DESTROYED);
    *id = found->id;
    return CUDA_SUCCESS;
  });
}

CUresult CUDAAPI cuCtxGetDevice(CUdevice* device) {
  return call("cuCtxGetDevice", kContext, [&](Call&) {
    *device = 0;
    return CUDA_SUCCESS;
  });
}

CUresult CUDAAPI cuCtxGetApiVersion(CUcontext context, unsigned int* version) {
  return call("cuCtxGetApiVersion", kNoContext, [&](Call& call) {
    if (context != nullptr) context_of(call, context);
    *version = 3020;
    return CUDA_SUCCESS;
  });
}

CUresult CUDAAPI cuCtxSynchronize(void) {
  return call("cuCtxSynchronize", kContext, [&](Call& call) {
    call.forbid_while_anything_captures();
    call.finish(call.driver.queue.pending(*call.context));
    return CUDA_SUCCESS;
  });
}

}  // extern "C"
