# SPDX-License-Identifier: Apache-2.0
"""A guest that writes what it likes into its page and its xenstore directory: at worst its own device closes."""

from hostile_pair import guests, hostile  # noqa: F401


def test_a_frontend_without_a_driver_is_none(lab, hostile):
    assert lab.guest("hostile", "test -e /dev/tpm0", check=False).returncode == 1


def test_a_page_with_nonsense_gets_tpm_errors(hostile):
    hostile.run("page")


def test_a_flood_of_events_and_headers_is_survived(hostile):
    hostile.run("flood")


def test_states_at_random_end_in_a_device_that_connects_again(hostile):
    hostile.run("states")
    hostile.run("connect")


def test_a_frontend_without_a_ring_is_closed_and_the_next_is_served(hostile):
    hostile.run("no_ring")
    hostile.run("connect")


def test_a_rewritten_xenstore_directory_closes_its_own_device(lab, hostile):
    hostile.run("xenstore")
    lab.power_cycle_vtpm("hostile")
    hostile.run("connect")


def test_a_directory_that_goes_is_gone_for_its_guest_only(lab, hostile):
    hostile.run("vanish")
    lab.power_cycle_vtpm("hostile")
    hostile.run("connect")
    assert lab.device("hostile")["state"] == "connected"


def test_a_frontend_that_waits_is_served_when_the_backend_starts(lab, guests):
    lab.power_cycle_vtpm("hostile")
    lab.dom0("systemctl stop xen-vtpmd")
    with lab.start("guest", "exec", "hostile", "--", "python3", "/root/hostile_frontend.py", "connect") as waiting:
        lab.dom0("timeout 60 sh -c 'until xenstore-read /local/domain/$(xl domid hostile)/device/vtpm/0/ring-ref; "
                 "do sleep 0.2; done'")
        lab.dom0("systemctl start xen-vtpmd")
        assert waiting.wait(timeout=180) == 0
