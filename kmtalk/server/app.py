"""The HTTP interface of the server."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, get_args

from fastapi import FastAPI, File, Form, HTTPException, Request, UploadFile
from fastapi import Path as PathParameter
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel, Field, ValidationError

from kmtalk import __version__
from kmtalk.errors import InputError, describe_validation_error
from kmtalk.server.limits import TOKEN_COOKIE, AccessCheck, App, RateLimit, SizeLimit
from kmtalk.server.live import add_live_face
from kmtalk.server.settings import CharacterKind, JobOptions, ServerSettings
from kmtalk.server.store import FINISHED, JobRecord, JobState, JobStore
from kmtalk.server.supervisor import Supervisor
from kmtalk.server.worker import CHARACTER, RESULT, SPEECH

PAGE = Path(__file__).parent / "page.html"
EVENT_SECONDS = 0.25  # between looks at a job whose progress is followed
_KINDS = {"html": "text/html; charset=utf-8", "glb": "model/gltf-binary", "mp4": "video/mp4", "wav": "audio/wav"}
# a page of a result has nothing to do with this server's cookies and addresses
_SANDBOX = "sandbox allow-scripts allow-downloads; default-src 'unsafe-inline' 'unsafe-eval' data: blob:"
_PAGE_POLICY = (
    "default-src 'self'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; frame-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
)

JobId = Annotated[str, PathParameter(pattern="^[0-9a-f]{32}$", description="Identifier of a job.")]


class JobFile(BaseModel):
    """A file of a result."""

    name: str = Field(description="Name of the file, for /jobs/{id}/files/{name}.")
    bytes: int = Field(description="Its size.")


class JobStatus(BaseModel):
    """A job as it is now."""

    id: str
    state: JobState
    speech: str = Field(description="Name of the sound.")
    options: JobOptions
    before: int = Field(description="Jobs that wait before this one, while it waits.")
    stage: str = Field(description="What is being done, while it runs.")
    progress: float | None = Field(description="Share of the stage that is done, from 0 to 1, where it is known.")
    created: float = Field(description="Seconds since 1970.")
    seconds: float | None = Field(description="Seconds that it took, at its end.")
    error: str | None = Field(description="One line on what went wrong.")
    warnings: list[str]
    files: list[JobFile]


class Problem(BaseModel):
    """What is wrong with a request."""

    detail: str


_PROBLEMS: dict[int | str, dict[str, object]] = {
    code: {"model": Problem, "description": text}
    for code, text in (
        (400, "The request cannot be read."),
        (401, "The token is missing or wrong."),
        (403, "The request comes from a page of another origin."),
        (404, "There is no such job or file."),
        (413, "The request is too large."),
        (422, "A value cannot be used."),
        (429, "Too many jobs; try again later."),
        (503, "The database of the jobs fails; try again later."),
    )
}


def create_app(
    folder: Path, settings: ServerSettings | None = None, log: Callable[[str], None] = lambda line: None
) -> App:
    """Create the server as an ASGI application.

    Args:
        folder: Folder of its jobs.
        settings: Its limits.
        log: Receives one line for each job that ends.

    Raises:
        InputError: The folder cannot be used.
    """
    settings = settings or ServerSettings()
    store = JobStore(folder)
    supervisor = Supervisor(store, settings, log)
    rate = RateLimit(settings.requests_per_minute)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        supervisor.start()
        yield
        await asyncio.to_thread(supervisor.stop)
        store.close()

    app = FastAPI(
        title="kmtalk", version=__version__, summary="Speech in, a talking 3D face out.", lifespan=lifespan,
        docs_url=None, redoc_url=None, redirect_slashes=False,
    )  # fmt: skip

    def status_of(job: JobRecord) -> JobStatus:
        now = supervisor.progress_of(job.id) if job.state == "running" else None
        took = None if job.started is None or job.finished is None else round(job.finished - job.started, 3)
        return JobStatus(
            id=job.id,
            state=job.state,
            speech=job.speech_name,
            options=job.options,
            before=store.place_of(job) if job.state == "waiting" else 0,
            stage="" if now is None else now.name,
            progress=None if now is None or not now.total else min(1.0, now.done / now.total),
            created=job.created,
            seconds=took,
            error=job.error,
            warnings=list(job.warnings),
            files=[JobFile(name=name, bytes=size) for name, size in job.files.items()],
        )

    def find(job_id: str) -> JobRecord:
        job = store.get(job_id)
        if job is None:
            raise HTTPException(404, "there is no such job")
        return job

    @app.exception_handler(sqlite3.Error)
    async def _say_that_jobs_are_not_kept(request: Request, error: sqlite3.Error) -> Response:
        detail = f"the database of the jobs fails ({error}); try again later"
        return Response(Problem(detail=detail).model_dump_json(), 503, media_type="application/json")

    @app.exception_handler(InputError)
    async def _say_what_is_wrong(request: Request, error: InputError) -> Response:
        return Response(Problem(detail=str(error)).model_dump_json(), 422, media_type="application/json")

    @app.exception_handler(RequestValidationError)
    async def _say_which_value(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        detail = f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
        return Response(Problem(detail=detail).model_dump_json(), 422, media_type="application/json")

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    def page(request: Request) -> Response:
        if "token" in request.query_params:  # from now on the browser brings it as a cookie
            answer = RedirectResponse("/", 303)
            if settings.token is not None:
                answer.set_cookie(TOKEN_COOKIE, settings.token, httponly=True, samesite="strict", path="/")
            return answer
        return HTMLResponse(PAGE.read_text("utf-8"), headers={"Content-Security-Policy": _PAGE_POLICY})

    @app.get("/health")
    def health() -> dict[str, str]:
        """Whether the server answers, and its version."""
        return {"status": "ok", "version": __version__}

    @app.post("/jobs", status_code=201, responses=_PROBLEMS)
    def add_job(
        request: Request,
        speech: Annotated[UploadFile, File(description="Sound or video file with the speech.")],
        character: Annotated[
            UploadFile | None, File(description="Mesh of one file: .glb, .vrm, .obj, .ply or .stl.")
        ] = None,
        options: Annotated[str, Form(description="What is wanted, as JSON: see JobOptions.")] = "{}",
    ) -> JobStatus:
        """Give a speech to animate, with a character where one is given. The job waits for its turn."""
        if not rate.allows(request.client.host if request.client else ""):
            raise HTTPException(429, "too many jobs in a minute; try again later", {"Retry-After": "60"})
        if store.count_waiting() >= settings.max_waiting:
            raise HTTPException(429, "too many jobs wait; try again later", {"Retry-After": "60"})
        wanted = _read_options(options)
        kind = None if character is None else _kind_of(character.filename or "")
        with store.new_folder() as (job_id, place):
            _keep(speech, place / SPEECH)
            if character is not None:
                _keep(character, place / f"{CHARACTER}.{kind}")
            job = store.add(job_id, wanted, _shown_name(speech.filename), kind)
        supervisor.wake()
        return status_of(job)

    @app.get("/jobs", responses=_PROBLEMS)
    def list_jobs() -> list[JobStatus]:
        """List the newest hundred jobs, newest first."""
        return [status_of(job) for job in store.newest()]

    @app.get("/jobs/{job_id}", responses=_PROBLEMS)
    def get_job(job_id: JobId) -> JobStatus:
        """Return a job as it is now."""
        return status_of(find(job_id))

    @app.get("/jobs/{job_id}/events", response_class=EventSourceResponse, responses=_PROBLEMS)
    async def follow_job(job_id: JobId) -> AsyncIterator[ServerSentEvent]:
        """Follow a job: an event with its status whenever it changes, until it ends."""
        last = None
        while True:
            now = store.get(job_id)
            if now is None:
                yield ServerSentEvent(event="gone", data=Problem(detail="there is no such job"))
                return
            status = status_of(now)
            if status != last:
                last = status
                yield ServerSentEvent(event="status", data=status)
            if now.state in FINISHED:
                return
            await asyncio.sleep(EVENT_SECONDS)

    @app.get("/jobs/{job_id}/files/{name:path}", response_class=FileResponse, responses=_PROBLEMS)
    def get_file(job_id: JobId, name: str) -> Response:
        """Fetch a file of a result, by one of the names in the job's `files`."""
        job = find(job_id)
        listed = [one for one in job.files if one == name]  # the path is that of the listing, not of the request
        if not listed:
            raise HTTPException(404, "the job has no such file")
        result = store.folder_of(job.id) / RESULT
        path = (result / listed[0]).resolve()
        if not path.is_file() or not path.is_relative_to(result):  # the process that decodes files made the listing
            raise HTTPException(404, "the job has no such file")
        suffix = path.suffix.removeprefix(".")
        headers = {"Content-Security-Policy": _SANDBOX, "X-Content-Type-Options": "nosniff"}
        kind = _KINDS.get(suffix, "application/octet-stream")
        how = "inline" if suffix in _KINDS else "attachment"
        return FileResponse(path, media_type=kind, filename=path.name, content_disposition_type=how, headers=headers)

    @app.delete("/jobs/{job_id}", status_code=204, responses=_PROBLEMS)
    def remove_job(job_id: JobId) -> None:
        """Cancel a job that waits or runs; remove one that has ended, with its files."""
        job = find(job_id)
        if job.state in FINISHED:
            store.remove(job.id)
        else:
            store.cancel(job.id)
            supervisor.wake()

    add_live_face(app, folder, settings, log)
    guarded: App = AccessCheck(app, _host_names(settings), settings.token)
    return SizeLimit(guarded, settings.max_megabytes * 1_000_000)


def _host_names(settings: ServerSettings) -> frozenset[str] | None:
    """Return the names by which this server is reached; None for any."""
    if not is_local(settings.host):
        return None  # the token protects it
    return frozenset({"localhost", "127.0.0.1", "::1", settings.host.lower()})


def is_local(host: str) -> bool:
    """Return whether a server at an address is reached from this machine alone."""
    return host in ("localhost", "::1") or host.startswith("127.")


def _read_options(text: str) -> JobOptions:
    """Read a job's options.

    Raises:
        HTTPException: They are no JSON, or a value cannot be used.
    """
    try:
        wanted = JobOptions.model_validate_json(text)
    except ValidationError as error:
        raise HTTPException(422, f"options: {describe_validation_error(error)}") from None
    wanted.animation()
    return wanted


def _kind_of(name: str) -> str:
    """Return the kind of a character by the name of its file, one of a fixed list."""
    suffix = name.rpartition(".")[2].lower()
    for kind in get_args(CharacterKind):
        if suffix == kind:
            return str(kind)
    listed = ", ".join(f".{kind}" for kind in get_args(CharacterKind))
    raise HTTPException(422, f"character: give a mesh of one file, which is {listed}")


def _shown_name(name: str | None) -> str:
    """Return the name of an uploaded file for messages: what can be printed of its last part."""
    last = (name or "").replace("\\", "/").rpartition("/")[2]
    return "".join(c for c in last if c.isprintable())[:100] or "speech"


def _keep(upload: UploadFile, path: Path) -> None:
    """Write an uploaded file; raises HTTPException where it is empty."""
    with path.open("xb") as file:
        shutil.copyfileobj(upload.file, file)
        empty = file.tell() == 0
        os.fsync(file.fileno())
    if empty:
        raise HTTPException(422, f"{_shown_name(upload.filename)}: is empty")
