# SPDX-License-Identifier: Apache-2.0
"""Adds up JUnit reports. One that is missing, unreadable or empty counts as one failure: a test program that died must
not look like one that passed."""

import xml.etree.ElementTree as ElementTree


def cases(report):
    try:
        return list(ElementTree.parse(report).iter("testcase"))
    except (OSError, ElementTree.ParseError):
        return []


def problem(case):
    found = case.find("failure")
    return case.find("error") if found is None else found


def explains_a_failure(report):
    return any(problem(case) is not None for case in cases(report))


def outcome(report):
    found = cases(report)
    failed = sum(problem(case) is not None for case in found)
    skipped = sum(case.find("skipped") is not None for case in found)
    if not found or failed:
        return f"{failed} of {len(found)} FAILED" if found else "ran no test"
    return f"{len(found) - skipped} passed" + (f", {skipped} skipped" if skipped else "")


def report_of_one(name, seconds, failed):
    """The report of a program that writes none."""
    case = ElementTree.Element("testcase", classname=name, name=name, time=f"{seconds:.0f}")
    if failed:
        ElementTree.SubElement(case, "failure")  # the end of the log says more
    suite = ElementTree.Element("testsuite", name=name)
    suite.append(case)
    return ElementTree.tostring(suite, encoding="unicode")


def end_of(log):
    return "\n".join(log.read_text(errors="replace").splitlines()[-40:]) if log.exists() else "(no output)"


def tell(jobs):
    """Prints what failed and what was skipped, and closes with one line; whether all is well."""
    passed = failed = skipped = 0
    for job in jobs:
        found = cases(job.report)
        if not found:
            failed += 1
            print(f"FAILED  {job.name}: ran no test, or ended badly; the end of its output:\n{end_of(job.log)}")
        for case in found:
            title = f"{job.name}: {case.get('name')}"
            if problem(case) is not None:
                failed += 1
                print(f"FAILED  {title}\n{(problem(case).text or '').strip() or end_of(job.log)}")
            elif case.find("skipped") is not None:
                skipped += 1
                print(f"SKIPPED {title}: {case.find('skipped').get('message')}")
            else:
                passed += 1
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return failed == 0 and passed > 0
