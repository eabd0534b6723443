"""Code that runs in this machine's sandbox."""

from __future__ import annotations

from bichat.domain import Origin
from bichat.executor import CodeInterpreterResult, CodeRequest
from bichat.interpreter import CodeInterpreter


class LocalExecutor:
    """Implements `Executor`: a fresh sandbox for each request."""

    def __init__(self, interpreter: CodeInterpreter) -> None:
        """`interpreter` is its owner's to enter and to leave; what it keeps and records, this does."""
        self._interpreter = interpreter

    async def execute(self, request: CodeRequest) -> CodeInterpreterResult:
        """See `Executor.execute`; `timeout_s` may be as long as the operator allows."""
        result = await self._interpreter.run(
            request.code,
            files=request.files or None,
            timeout_s=request.timeout_s,
            tenant=request.tenant,
            user=request.user,
            origin=Origin(message_id=request.message_id),
        )
        archive = self._interpreter.archive
        outputs = (
            () if archive is None else await archive.outputs_of(request.tenant, result, message_id=request.message_id)
        )
        return CodeInterpreterResult(execution=result, outputs=outputs, cells=(request.code,))
