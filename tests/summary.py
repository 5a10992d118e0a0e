# SPDX-License-Identifier: Apache-2.0
"""summary.py RESULTS NAME...: adds up the JUnit reports RESULTS/NAME.xml. A report that is missing, unreadable or
empty counts as one failure: a test program that died must not look like one that passed."""

import pathlib
import sys
import xml.etree.ElementTree as ElementTree



def end_of_log(name):
    log = results / f"{name}.log"
    return "\n".join(log.read_text(errors="replace").splitlines()[-40:]) if log.exists() else "(no output)"


results = pathlib.Path(sys.argv[1])
passed = failed = skipped = 0

for name in sys.argv[2:]:
    try:
        cases = list(ElementTree.parse(results / f"{name}.xml").iter("testcase"))
    except (OSError, ElementTree.ParseError) as error:
        cases = []
        print(f"FAILED  {name}: no report: {error}")
    if not cases:
        failed += 1
        print(f"FAILED  {name}: ran no test; the end of its output:\n{end_of_log(name)}")
    for case in cases:
        title = f"{name}: {case.get('name')}"
        problem = case.find("failure") if case.find("failure") is not None else case.find("error")
        if problem is not None:
            failed += 1
            print(f"FAILED  {title}\n{(problem.text or '').strip() or end_of_log(name)}")
        elif case.find("skipped") is not None:
            skipped += 1
            print(f"SKIPPED {title}: {case.find('skipped').get('message')}")
        else:
            passed += 1

print(f"{passed} passed, {failed} failed, {skipped} skipped")
sys.exit(1 if failed or not passed else 0)
