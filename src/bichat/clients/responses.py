"""Code that runs on a server of OpenAI's Responses API: a hosted container and a response for each execution."""

from __future__ import annotations

from contextlib import aclosing
from typing import ClassVar, Final

from bichat.clients import messages, uploads
from bichat.clients.answers import Json, id_of, is_id, mapping_in, objects_in, path
from bichat.clients.job import Cell, Job
from bichat.clients.loading import RemoteFile, plain_name
from bichat.clients.remote_executor import RemoteExecutor
from bichat.clients.trail import Thing, Trail
from bichat.clients.wire import Answer
from bichat.errors import RemoteServiceError

_OUTPUTS: Final = "code_interpreter_call.outputs"
_MARK: Final = "bichat_execution"
#: After so many minutes without use a container goes by itself, should nobody be there to delete it.
_IDLE_MINUTES: Final = 20


class ResponsesClient(RemoteExecutor):
    """Runs code on a server that speaks the Responses API with hosted containers: OpenAI's own, or `bichat serve`.

        responses = ResponsesClient(AsyncOpenAI(), storage)
        outputs = await responses.execute_code_interpreter(message_id, "Create a bar chart: North=100, South=150")

    A container is made, and files are put into it; a response is begun in the background, and looked at until it has
    ended; what came out is read from its items; every file that the code left in the container is loaded, cited or not;
    stored; and response and container are deleted.
    """

    kind: ClassVar[str] = "responses"
    _order: ClassVar = ("response", "container")

    async def _prepare(self, job: Job, trail: Trail) -> None:
        async with trail.making("container") as made:
            body = {
                "name": _name(trail.marker),
                "expires_after": {"anchor": "last_active_at", "minutes": _IDLE_MINUTES},
            }
            container = await self._server.create("/containers", stage="container", body=body)
            job.container_id = job.ids["container"] = id_of(container, "container")
            made(job.container_id)
        files = path("containers", job.container_id, "files")
        places: list[tuple[str, tuple[str, ...]]] = []
        for file in job.files:
            with uploads.opened(file) as stream:
                sent = (file.name, stream, "application/octet-stream")
                put = await self._server.create(files, stage="upload", file=sent)
            places.append((file.name, (str(put.get("path") or file.name),)))
        job.before = uploads.links(places)

    async def _start(self, job: Job, trail: Trail) -> None:
        said = (
            messages.asking_for(job.code, description=job.description, before=job.before)
            if job.code
            else messages.with_links(job.text, job.before)
        )
        body = {
            "model": job.model,
            "instructions": self._options.instructions,
            "input": said,
            "tools": [{"type": "code_interpreter", "container": job.container_id}],
            "include": [_OUTPUTS],
            "background": True,  # a connection that breaks takes neither run nor result along
            "store": True,
            "metadata": {_MARK: trail.marker},
        }
        try:
            async with trail.making("response") as made:
                response = await self._server.create("/responses", stage="run", body=body)
                job.ids["run"] = id_of(response, "run")
                made(job.ids["run"])
        except RemoteServiceError as error:
            # Refused: nothing was begun.  Else it may run; deleting its container ends it.
            job.is_started = error.ran is not False
            raise

    async def _look(self, job: Job, until: float | None) -> Answer:
        return await self._server.get(
            path("responses", job.ids["run"]), stage="run", params={"include": [_OUTPUTS]}, until=until
        )

    async def _cancel(self, job: Job) -> None:
        await self._server.ask(f"{path('responses', job.ids['run'])}/cancel", stage="run")

    async def _collect(self, job: Job, trail: Trail, run: Json) -> None:  # noqa: ARG002  # its files go with the container
        job.usage = mapping_in(run.get("usage"))
        for item in objects_in(run.get("output")):
            if item.get("type") == "code_interpreter_call":
                _read_call(job, item)
            elif item.get("type") == "message":
                for part in objects_in(item.get("content")):
                    _read_part(job, part)
        files = path("containers", job.container_id, "files")
        async with aclosing(self._server.everything(files, stage="collect", params={"order": "asc"})) as listed:
            async for file in listed:
                if file.get("source") != "user":
                    size = file.get("bytes")
                    _add(
                        job,
                        job.container_id,
                        file.get("id"),
                        plain_name(file.get("path")),
                        size if isinstance(size, int) else None,
                    )

    def _where(self, thing: Thing) -> str:
        return path(f"{thing[0]}s", thing[1])

    async def _find(self, kind: str, marker: str) -> list[Thing] | None:
        if kind != "container":
            return None
        name = _name(marker)
        listed = self._server.everything("/containers", stage="cleanup", params={"name": name})
        async with aclosing(listed):
            return [
                ("container", id_of(container, "cleanup"))
                async for container in listed
                if container.get("name") == name
            ]


def _name(marker: str) -> str:
    return f"bichat-{marker}"


def _read_call(job: Job, item: Json) -> None:
    code = item.get("code")
    if not isinstance(code, str) or code.strip() == job.before.strip() != "":
        return
    logs: list[str] = []
    for output in objects_in(item.get("outputs")):
        if isinstance(output.get("logs"), str):
            logs.append(str(output["logs"]))
        if isinstance(output.get("url"), str):
            job.images.append(str(output["url"]))
    job.cells.append(Cell(code, "".join(logs)))


def _read_part(job: Job, part: Json) -> None:
    if isinstance(part.get("text"), str):
        job.said.append(str(part["text"]))
    for annotation in objects_in(part.get("annotations")):
        if annotation.get("type") == "container_file_citation":
            container = str(annotation.get("container_id") or job.container_id)
            _add(job, container, annotation.get("file_id"), plain_name(annotation.get("filename")), None)


def _add(job: Job, container_id: str, file_id: object, name: str, size: int | None) -> None:
    if is_id(file_id) and is_id(container_id):
        content = f"{path('containers', container_id, 'files', file_id)}/content"
        job.add_file(RemoteFile(id=file_id, content=content, name=name or file_id, size_bytes=size))
