"""Code that runs on a server of OpenAI's Assistants API: an assistant and a thread for each execution."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import aclosing, contextmanager
from typing import ClassVar, Final

from bichat.clients import messages, uploads
from bichat.clients.answers import Json, id_of, is_id, mapping_in, objects_in, path
from bichat.clients.job import Cell, Job
from bichat.clients.loading import RemoteFile, plain_name
from bichat.clients.refusals import is_lost
from bichat.clients.remote_executor import RemoteExecutor
from bichat.clients.trail import Thing, Trail
from bichat.clients.wire import Answer
from bichat.errors import RemoteServiceError

_TOOLS: Final = [{"type": "code_interpreter"}]
_MARK: Final = "bichat_execution"
_NAME: Final = "bichat"


class AssistantsClient(RemoteExecutor):
    """Runs code on a server that speaks the Assistants API: `bichat serve`, for one.

        assistants = AssistantsClient(AsyncOpenAI(base_url=...), storage)
        outputs = await assistants.execute_code_interpreter(message_id, "Create a bar chart: North=100, South=150")

    Seven steps: an assistant with the code interpreter is made; a thread with the message; a run, which is looked at until
    it has ended; what came out is read from its messages and steps; files are loaded; stored; and all that was made is
    deleted, what the code made as well.
    """

    kind: ClassVar[str] = "assistants"
    _order: ClassVar = ("thread", "assistant", "file")

    async def _prepare(self, job: Job, trail: Trail) -> None:
        ids = await self._uploaded(job, trail)
        mark = {_MARK: trail.marker}
        resources = {"tool_resources": {"code_interpreter": {"file_ids": ids}}} if ids else {}
        async with trail.making("assistant") as made:
            body = {
                "model": job.model,
                "name": _NAME,
                "instructions": self._options.instructions,
                "tools": _TOOLS,
                "metadata": mark,
            }
            assistant = await self._server.create("/assistants", stage="assistant", body=body)
            job.ids["assistant"] = id_of(assistant, "assistant")
            made(job.ids["assistant"])
        async with trail.making("thread") as made:
            said = [{"role": "user", "content": self._said(job)}]
            thread = await self._server.create(
                "/threads", stage="thread", body={"messages": said, "metadata": mark, **resources}
            )
            job.ids["thread"] = id_of(thread, "thread")
            made(job.ids["thread"])

    async def _uploaded(self, job: Job, trail: Trail) -> list[str]:
        ids: list[str] = []
        for file in job.files:
            async with trail.making("file") as made:
                with uploads.opened(file) as stream:
                    body = {"purpose": "assistants", "expires_after": uploads.EXPIRES_AFTER}
                    sent = (file.name, stream, "application/octet-stream")
                    uploaded = await self._server.create("/files", stage="upload", body=body, file=sent)
                ids.append(id_of(uploaded, "upload"))
                made(ids[-1])
        places = [
            (file.name, (file_id, f"{file_id}-{file.name}")) for file, file_id in zip(job.files, ids, strict=True)
        ]
        job.before = uploads.links(places)
        return ids

    def _said(self, job: Job) -> str:
        if job.code:
            return messages.asking_for(job.code, description=job.description, before=job.before)
        return messages.with_links(job.text, job.before)

    async def _start(self, job: Job, trail: Trail) -> None:
        runs = path("threads", job.ids["thread"], "runs")
        body = {"assistant_id": job.ids["assistant"], "metadata": {_MARK: trail.marker}}
        try:
            run = await self._server.create(runs, stage="run", body=body)
        except RemoteServiceError as error:
            if not is_lost(error):
                job.is_started = False
                raise
            # It may have begun all the same.  It is not begun twice: where it has, it is the thread's only one.
            begun = await self._begun_run(runs)
            if begun is None:
                raise
            run = begun
        job.ids["run"] = id_of(run, "run")

    async def _begun_run(self, runs: str) -> Json | None:
        try:
            async with aclosing(self._server.everything(runs, stage="run")) as found:
                async for run in found:
                    return run
        except RemoteServiceError:
            return None
        return None

    async def _look(self, job: Job, until: float | None) -> Answer:
        return await self._server.get(self._run_path(job), stage="run", until=until, waits=True)

    async def _cancel(self, job: Job) -> None:
        await self._server.ask(f"{self._run_path(job)}/cancel", stage="run")

    def _run_path(self, job: Job) -> str:
        return path("threads", job.ids["thread"], "runs", job.ids["run"])

    async def _collect(self, job: Job, trail: Trail, run: Json) -> None:
        job.usage = mapping_in(run.get("usage"))
        try:
            await self._read_steps(job, "collect")
            await self._read_messages(job, "collect")
        finally:
            await trail.found(("file", file.id) for file in job.remote_files)

    async def _read_steps(self, job: Job, stage: str) -> None:
        """Note in `job` what its run's code was, printed and showed."""
        steps = self._server.everything(f"{self._run_path(job)}/steps", stage=stage, params={"order": "asc"})
        async with aclosing(steps):
            async for step in steps:
                for call in objects_in(mapping_in(step.get("step_details")).get("tool_calls")):
                    _read_call(job, mapping_in(call.get("code_interpreter")))

    async def _read_messages(self, job: Job, stage: str) -> None:
        """Note in `job` what its run said, and which files that names."""
        run_id = job.ids["run"]
        params = {"order": "asc", "run_id": run_id}
        said = self._server.everything(path("threads", job.ids["thread"], "messages"), stage=stage, params=params)
        async with aclosing(said):
            async for message in said:
                # A server that does not know the filter gives those of others as well.
                if message.get("role") == "assistant" and message.get("run_id") in (None, run_id):
                    for block in objects_in(message.get("content")):
                        _read_block(job, block)
                    for attachment in objects_in(message.get("attachments")):
                        if not job.knows(attachment.get("file_id")):  # new, and named by nobody
                            _add(job, attachment.get("file_id"), source="file")

    async def _inside(self, thing: Thing) -> list[Thing]:
        """Files that runs left: the thread is all that names them."""
        if thing[0] != "thread":
            return []
        known = Job(tenant="", text="", model="", timeout_s=0.0)
        known.ids["thread"] = thing[1]
        runs = self._server.everything(path("threads", thing[1], "runs"), stage="cleanup")
        with _gone_or_not():
            async with aclosing(runs):
                async for run in runs:
                    known.ids["run"] = id_of(run, "cleanup")
                    with _gone_or_not():
                        await self._read_steps(known, "cleanup")
                    with _gone_or_not():
                        await self._read_messages(known, "cleanup")
        return [("file", file.id) for file in known.remote_files]

    def _where(self, thing: Thing) -> str:
        return path(f"{thing[0]}s", thing[1])

    async def _find(self, kind: str, marker: str) -> list[Thing] | None:
        if kind != "assistant":
            return None
        async with aclosing(self._server.everything("/assistants", stage="cleanup")) as assistants:
            return [
                ("assistant", id_of(assistant, "cleanup"))
                async for assistant in assistants
                if mapping_in(assistant.get("metadata")).get(_MARK) == marker
            ]


@contextmanager
def _gone_or_not() -> Generator[None]:
    """Within, what is not there any more ends the block, and is no failure."""
    try:
        yield
    except RemoteServiceError as error:
        if error.status_code != 404:
            raise


def _read_call(job: Job, call: Json) -> None:
    code = call.get("input")
    if not isinstance(code, str) or code.strip() == job.before.strip() != "":
        return
    logs: list[str] = []
    for output in objects_in(call.get("outputs")):
        if isinstance(output.get("logs"), str):
            logs.append(str(output["logs"]))
        _add(job, mapping_in(output.get("image")).get("file_id"), source="display")
    job.cells.append(Cell(code, "".join(logs)))


def _read_block(job: Job, block: Json) -> None:
    _add(job, mapping_in(block.get("image_file")).get("file_id"), source="display")
    text = mapping_in(block.get("text"))
    if isinstance(text.get("value"), str):
        job.said.append(str(text["value"]))
    for annotation in objects_in(text.get("annotations")):
        _add(
            job,
            mapping_in(annotation.get("file_path")).get("file_id"),
            source="file",
            name=plain_name(annotation.get("text")),
        )


def _add(job: Job, file_id: object, *, source: str, name: str = "") -> None:
    if is_id(file_id):
        about = path("files", file_id)
        job.add_file(RemoteFile(id=file_id, content=f"{about}/content", about=about, name=name, source=source))
