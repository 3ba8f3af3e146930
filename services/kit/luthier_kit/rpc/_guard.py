"""The one interceptor: request id, caller, admission, errors to statuses, metrics, one log line a call."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import grpc

from luthier_kit.rpc import _telemetry as telemetry
from luthier_kit.rpc._admission import Admission
from luthier_kit.rpc._callers import CallerLimit, Callers, Metadata, host
from luthier_kit.rpc._errors import LuthierError, Unavailable, grpc_status_of

log = logging.getLogger(__name__)
SLOTS_KEY = "luthier-slots"  # trailing metadata: what this server can take at once from this caller
REFLECTION = "grpc.reflection."
REFUSED_CALLERS = {"UNAUTHENTICATED", "PERMISSION_DENIED"}  # calls that an operator wants to see, however quick


class CallGuard(grpc.ServerInterceptor):
    """Guards the calls of one service. Reflection is for those who may call it; health passes by, for probes."""

    def __init__(
        self, name: str, domain: str, admission: Admission, light: set[str], watch: set[str], *,
        callers: Callers, caller_in_flight: int = 0,
    ) -> None:  # fmt: skip
        self.name = name
        self.domain = domain
        self.admission = admission
        self.light = light
        self.watch = watch
        self.callers = callers
        self.limit = CallerLimit(name, caller_in_flight)
        bound = caller_in_flight // 2 or 1  # a client sends two calls for each slot that it is told of
        self.slots = str(min(admission.slots, bound) if caller_in_flight else admission.slots)
        self.ready = False

    def intercept_service(
        self, continuation: Callable[[grpc.HandlerCallDetails], Any], call: grpc.HandlerCallDetails
    ) -> Any:
        handler = continuation(call)
        service, _, method = call.method.lstrip("/").partition("/")
        if handler is None or service != self.name:
            return self._reflection(handler, call) if handler and service.startswith(REFLECTION) else handler
        metadata = call.invocation_metadata
        if handler.response_streaming:

            def stream(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
                with self._guarded(method, metadata, context):
                    yield from handler.unary_stream(request, context)

            return grpc.unary_stream_rpc_method_handler(
                stream, handler.request_deserializer, handler.response_serializer
            )

        def unary(request: Any, context: grpc.ServicerContext) -> Any:
            with self._guarded(method, metadata, context):
                return handler.unary_unary(request, context)

        return grpc.unary_unary_rpc_method_handler(unary, handler.request_deserializer, handler.response_serializer)

    def _reflection(self, handler: Any, call: grpc.HandlerCallDetails) -> Any:
        def stream(requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
            try:
                self.callers.name(call.invocation_metadata, context)
            except LuthierError as error:
                context.abort_with_status(grpc_status_of(error, self.domain))
            yield from handler.stream_stream(requests, context)

        return grpc.stream_stream_rpc_method_handler(stream, handler.request_deserializer, handler.response_serializer)

    def _admitted(self, method: str, caller: str, context: grpc.ServicerContext) -> AbstractContextManager[None]:
        if method in self.watch:
            return self.admission.watch()
        if method in self.light:
            return self.admission.light()
        return self._work(caller or host(context), context)

    @contextmanager
    def _work(self, who: str, context: grpc.ServicerContext) -> Iterator[None]:
        with self.limit.held(who), self.admission.work(context):
            yield

    @contextmanager
    def _guarded(self, method: str, metadata: Metadata, context: grpc.ServicerContext) -> Iterator[None]:
        identity = dict(metadata).get(telemetry.REQUEST_ID_KEY) or telemetry.new_request_id()
        telemetry.request_id.set(str(identity)[:128])
        started, code, refused = time.perf_counter(), "OK", {}
        context.set_trailing_metadata(((SLOTS_KEY, self.slots),))
        try:
            caller = self.callers.name(metadata, context)
            telemetry.current_caller.set(caller)
            if not self.ready:
                raise Unavailable("the service is starting or stopping", reason="NOT_READY")
            with self._admitted(method, caller, context):
                yield
        except GeneratorExit:
            code = grpc.StatusCode.CANCELLED.name
            raise
        except Exception as error:
            code = error.code.name if isinstance(error, LuthierError) else grpc.StatusCode.INTERNAL.name
            if isinstance(error, LuthierError):
                refused = {"reason": error.reason, "peer": host(context)}
            else:
                log.exception("%s failed", method)
            status = grpc_status_of(error, self.domain)
            trailing = (*status.trailing_metadata, (SLOTS_KEY, self.slots))
            context.abort_with_status(status._replace(trailing_metadata=trailing))
        finally:
            self._account(method, code, time.perf_counter() - started, refused)
            telemetry.request_id.set("")
            telemetry.current_caller.set("")

    def _account(self, method: str, code: str, seconds: float, refused: dict[str, str]) -> None:
        telemetry.CALL_SECONDS.labels(self.name, method, code).observe(seconds)
        fields = {"method": method, "code": code, "seconds": round(seconds, 3), **refused}
        quiet = method in self.light and code not in REFUSED_CALLERS
        log.log(logging.DEBUG if quiet else logging.INFO, "call", extra={"fields": fields})
