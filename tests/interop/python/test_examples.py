import os
import subprocess
import sys
import unittest
from pathlib import Path

from support import AMQP_URI, BrokerTest, unique

EXAMPLES = Path(__file__).resolve().parents[3] / "examples" / "python"


class Examples(BrokerTest):
    def test_the_work_queue_finishes_every_job_and_retries_the_failed_one(self):
        queue = unique("work_queue")
        self.queues.append(queue)
        run = subprocess.run(
            [sys.executable, EXAMPLES / "work_queue.py", AMQP_URI, queue],
            env={**os.environ, "PYTHONUNBUFFERED": "1"}, capture_output=True, text=True, timeout=30)
        self.assertEqual(run.returncode, 0, run.stdout + run.stderr)
        self.assertEqual(run.stdout.count("failed    resize broken.jpg, requeued"), 1, run.stdout)
        self.assertEqual(run.stdout.count("done      resize broken.jpg (second try)"), 1, run.stdout)
        self.assertEqual(run.stdout.count(": done "), 5, run.stdout)
        self.assertTrue(run.stdout.endswith("all 5 jobs done\n"), run.stdout)


if __name__ == "__main__":
    unittest.main()
