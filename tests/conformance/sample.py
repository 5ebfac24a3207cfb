"""A test module with every way to end, for the tests of the runner. Not collected by pytest."""

import asyncio
import os
import time
import unittest


class Sample(unittest.TestCase):
    def test_a_passes(self):
        assert asyncio.run(asyncio.sleep(0, "result")) == "result"

    def test_b_crashes(self):
        os.abort()

    def test_c_hangs(self):
        time.sleep(1000)

    def test_d_forks(self):
        child = os.fork()
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)

    def test_e_fails(self):
        self.fail("as it should")

    @unittest.skip("as it should")
    def test_f_skips(self):
        pass

    @unittest.expectedFailure
    def test_g_expected_failure(self):
        self.fail("as it should")

    def test_h_subtests(self):
        for number in range(3):
            with self.subTest(number=number):
                assert number != 1

    def test_i_after_all_that(self):
        pass
