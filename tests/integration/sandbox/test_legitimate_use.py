"""What honest programs do goes on working behind all the walls."""

from __future__ import annotations

from dataclasses import replace

from bichat.domain import Status
from bichat.sizes import MIB


def test_a_program_can_be_run(run_code):
    outcome = run_code(
        """
        import subprocess, sys
        answer(subprocess.run([sys.executable, "-c", "print(6 * 7)"], capture_output=True, text=True, check=True).stdout)
        """
    )

    assert outcome.answer == "42\n"


def test_a_line_of_shell_can_be_run(run_code):
    outcome = run_code("os.system('echo hello | tr a-z A-Z > out.txt')")

    assert outcome.files["out.txt"].read_bytes() == b"HELLO\n"


def test_a_shell_pipeline_reads_and_writes_files(run_code):
    outcome = run_code(
        "import subprocess; answer(subprocess.check_output('sort -n in.txt | tail -1', shell=True, text=True))",
        files={"in.txt": b"3\n10\n2\n"},
    )

    assert outcome.answer == "10\n"


def test_files_are_copied_with_what_can_be_copied_of_their_attributes(run_code):
    outcome = run_code(
        """
        import shutil, subprocess
        done = subprocess.run("cp -p in.txt one; cp -a in.txt two; cp --reflink=auto in.txt three", shell=True, stderr=-1)
        shutil.copy2("in.txt", "four")
        shutil.copytree(".", "/tmp/all")
        answer([done.stderr.decode(), sorted(os.listdir("/tmp/all")), os.stat("four").st_mtime == os.stat("in.txt").st_mtime])
        """,
        files={"in.txt": b"3"},
    )

    assert outcome.answer == ["", ["four", "in.txt", "one", "three", "two"], True]


def test_multiprocessing_works_by_fork(run_code):
    outcome = run_code(
        """
        import multiprocessing
        with multiprocessing.get_context("fork").Pool(2) as pool:
            answer(pool.map(abs, [-1, -2, -3]))
        """
    )

    assert outcome.answer == [1, 2, 3]


def test_multiprocessing_works_by_spawn(run_code):
    outcome = run_code(
        """
        import multiprocessing
        if __name__ == "__main__":
            with multiprocessing.get_context("spawn").Pool(2) as pool:
                answer(pool.map(abs, [-1, -2, -3]))
        """
    )

    assert outcome.answer == [1, 2, 3]


def test_an_executor_of_processes_works(run_code):
    outcome = run_code(
        """
        from concurrent.futures import ProcessPoolExecutor
        with ProcessPoolExecutor(2) as executor:
            answer(list(executor.map(abs, [-1, -2])))
        """
    )

    assert outcome.answer == [1, 2]


def test_a_manager_is_refused_for_it_needs_a_socket_that_listens(run_code):
    outcome = run_code("import multiprocessing; multiprocessing.Manager()")

    assert outcome.status is Status.ERROR


def test_threads_work(run_code):
    outcome = run_code(
        """
        from concurrent.futures import ThreadPoolExecutor
        with ThreadPoolExecutor(8) as executor:
            answer(sum(executor.map(abs, range(-100, 0))))
        """
    )

    assert outcome.answer == 5050


def test_asyncio_works_with_programs_and_threads(run_code):
    outcome = run_code(
        """
        import asyncio
        async def main():
            process = await asyncio.create_subprocess_exec("echo", "hello", stdout=asyncio.subprocess.PIPE)
            printed, _ = await process.communicate()
            return [printed.decode(), await asyncio.to_thread(abs, -1)]
        answer(asyncio.run(main()))
        """
    )

    assert outcome.answer == ["hello\n", 1]


def test_a_database_in_a_file_works(run_code):
    outcome = run_code(
        """
        import sqlite3
        with sqlite3.connect("shop.db") as database:
            database.execute("pragma journal_mode=wal")
            database.execute("create table sales (amount)")
            database.execute("insert into sales values (42)")
            answer(database.execute("select sum(amount) from sales").fetchone())
        database.close()
        """
    )

    assert outcome.answer == [42]
    assert "shop.db" in outcome.files


def test_temporary_files_do_not_come_out(run_code):
    outcome = run_code("import tempfile; answer(tempfile.NamedTemporaryFile(delete=False).name.startswith('/tmp/'))")

    assert outcome.answer is True
    assert outcome.files == {}


def test_signals_work_as_anywhere(run_code):
    outcome = run_code(
        """
        import signal
        heard = []
        signal.signal(signal.SIGALRM, lambda number, frame: heard.append(number))
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        signal.pause()
        answer(heard)
        """
    )

    assert outcome.answer == [14]


def test_a_forest_is_grown_by_two_jobs(run_code, data_environment):
    outcome = run_code(
        """
        import numpy, sklearn.ensemble
        forest = sklearn.ensemble.RandomForestClassifier(10, n_jobs=2)
        answer(forest.fit(numpy.random.rand(50, 3), numpy.arange(50) % 2).predict([[0, 0, 0]]).shape)
        """,
        environment=data_environment,
    )

    assert outcome.answer == [1]


def test_a_chart_is_drawn_and_a_table_written(run_code, limits, data_environment):
    outcome = run_code(
        """
        import matplotlib.pyplot, pandas
        frame = pandas.DataFrame({"region": ["north", "south"], "amount": [1, 2]})
        frame.plot.bar(x="region")
        matplotlib.pyplot.savefig("chart.png")
        frame.to_csv("table.csv")
        """,
        limits=replace(limits, memory_bytes=512 * MIB),
        environment=data_environment,
    )

    assert outcome.status is Status.COMPLETED
    assert outcome.files["chart.png"].mime_type == "image/png"
    assert outcome.files["table.csv"].mime_type == "text/csv"


def test_code_that_counts_processors_finds_those_that_it_may_use_however_many_the_host_has(
    run_code, supervise, open_environment, limits, level
):
    outcome = run_code(
        """
        import multiprocessing
        answer([os.cpu_count(), multiprocessing.cpu_count()])
        """,
        limits=replace(limits, cpus=1),
        supervisor=supervise(open_environment, level.layers),
    )

    assert outcome.answer == [1, 1]
