"""Loads engines and keeps their contexts.

Loading does all that can fail: an engine must be what its part says before anything runs. Contexts are made once for
each profile, with all of their shapes set; running one then means addresses, memory and a call. Contexts go before
their engine, engines before the runtime. The device's context must be current in every call, closing included.
"""

from __future__ import annotations

from ..errors import BackendError
from ..plan.payloads import Part
from .api import ICudaEngine, IExecutionContext
from .context import Context
from .doors import check_engine, output_shapes, profile_shapes
from .flavour import Flavour
from .messages import Messages, attempt, messages_of
from .refusals import BUILD_AGAIN, explain_refusal, remedy

__all__ = ["LoadedPart", "Runtime"]


class Runtime:
    """Loads engines of one flavour.

    Args:
        flavour: of TensorRT.
        version_compatible: whether the engines are: each carries a lean runtime, code that is run when it is loaded.
            Say so only of engines that are trusted as much as the program itself.

    Raises:
        BackendError: TensorRT does not start.
    """

    def __init__(self, flavour: Flavour, *, version_compatible: bool = False) -> None:
        if not (flavour.runs_any or version_compatible):
            raise BackendError(
                f"{flavour} runs version-compatible engines alone; install the whole of TensorRT, or build the plan "
                "with --version-compatible"
            )
        self.flavour = flavour
        self._messages = messages_of(flavour)
        with self._messages.heard() as heard:
            runtime = attempt(heard, lambda: flavour.module.Runtime(self._messages.logger))
        if runtime is None:
            raise BackendError(f"{flavour} does not start: {heard.words()}; `uperfuse doctor` says what it needs")
        if version_compatible:
            runtime.engine_host_code_allowed = True
        self._runtime = runtime
        self._loaded: list[LoadedPart] = []
        self._closed = False

    def load(self, part: Part, data: bytes | memoryview, *, profiles: int) -> LoadedPart:
        """Load the engine of a part and compare it with what the part says.

        Args:
            part: whose engine it is.
            data: the serialised engine; it may go once it is loaded.
            profiles: how many the engine must have.

        Raises:
            BackendError: this TensorRT or GPU does not take the engine, or it is not that part's.
        """
        if self._closed:
            raise BackendError(f"{self.flavour} is closed; load the plan again")
        with self._messages.heard() as heard:
            engine = attempt(heard, lambda: self._runtime.deserialize_cuda_engine(data))
        if engine is None:
            raise BackendError(explain_refusal(part.name, heard, flavour=self.flavour))
        check_engine(engine, part, profiles=profiles, flavour=self.flavour)
        loaded = LoadedPart(engine, part, flavour=self.flavour, messages=self._messages)
        self._loaded.append(loaded)
        return loaded

    def close(self) -> None:
        """Give back every engine and the runtime; what was loaded is gone. Safe to call again."""
        while self._loaded:
            self._loaded.pop().close()
        if not self._closed:
            self._closed = True
            del self._runtime


class LoadedPart:
    """An engine on the GPU, and its contexts."""

    def __init__(self, engine: ICudaEngine, part: Part, *, flavour: Flavour, messages: Messages) -> None:
        self.part = part
        self.profiles = engine.num_optimization_profiles
        self.activation_bytes = int(engine.device_memory_size_v2)
        """Memory that a context needs while it runs, the largest over all profiles; contexts that run one after the
        other may share it."""
        self._engine: ICudaEngine | None = engine
        self._flavour = flavour
        self._messages = messages
        self._contexts: dict[int, Context] = {}

    def context(self, profile: int, *, stream: int = 0) -> Context:
        """The context of a profile, made when it is first asked for.

        Args:
            profile: number of the profile.
            stream: handle of the stream that its settings are copied on; wait for it before the first run, unless
                that is on the same stream.

        Raises:
            BackendError: TensorRT makes none, or its shapes are not the part's.
        """
        if self._engine is None:
            raise BackendError(f"the engine of {self.part.name} is closed; load the plan again")
        if not 0 <= profile < self.profiles:
            raise BackendError(f"{self.part.name} has no profile {profile}, got {self.profiles} of them; {BUILD_AGAIN}")
        if profile not in self._contexts:
            self._contexts[profile] = self._make_context(self._engine, profile, stream)
        return self._contexts[profile]

    def close(self) -> None:
        """Give back the contexts, then the engine. Safe to call again."""
        while self._contexts:
            self._contexts.popitem()[1].close()
        self._engine = None

    def _make_context(self, engine: ICudaEngine, profile: int, stream: int) -> Context:
        name = self.part.name
        with self._messages.heard() as heard:
            made = attempt(heard, lambda: self._create(engine))
            if made is None:
                raise BackendError(f"{name} gets no context: {heard.words()}; {remedy(heard)}")
            shapes = profile_shapes(engine, self.part, profile)
            done = made.set_optimization_profile_async(profile, stream)
            done = done and all(made.set_input_shape(door.name, shapes[door.name]) for door in self.part.inputs)
            missing = attempt(heard, lambda: list(made.infer_shapes())) if done else None
        if missing is None or missing:
            raise BackendError(
                f"{name} does not take the shapes of its profile {profile}: {heard.words()}; {BUILD_AGAIN}"
            )
        for output, shape in output_shapes(self.part, shapes).items():
            got = tuple(made.get_tensor_shape(output))
            if got != shape:
                raise BackendError(
                    f"{name} gives {output} of shape {list(got)}, its part lists {list(shape)}; {BUILD_AGAIN}"
                )
            shapes[output] = shape
        return Context(
            made,
            part=name,
            shapes=shapes,
            activation_bytes=self.activation_bytes,
            messages=self._messages,
            flavour=self._flavour,
        )

    def _create(self, engine: ICudaEngine) -> IExecutionContext | None:
        trt = self._flavour.module
        user_managed = trt.ExecutionContextAllocationStrategy.USER_MANAGED
        if not self._flavour.has("DynamicShapesKernelSpecializationStrategy"):
            return engine.create_execution_context(user_managed)
        config = engine.create_runtime_config()
        config.set_execution_context_allocation_strategy(user_managed)
        # kernels for the shapes at hand at once: compiled in the background, some would come after a graph was captured
        config.dynamic_shapes_kernel_specialization_strategy = trt.DynamicShapesKernelSpecializationStrategy.EAGER
        return engine.create_execution_context(config)
