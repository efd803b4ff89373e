"""Pages say of a method what was measured of it."""

import json

import cam
from cam._methods import trust
from cam._methods.trust import Finding, Trust, find_trust


def test_the_sentence_says_what_holds_and_what_does_not():
    yes, no = Finding(0.0, True), Finding(0.5, False)
    row = Trust(
        {"completeness": yes, "conservation": None, "dummy": yes, "seeds": no, "batch": yes},
        {"linear": 1.0, "patch": 0.5, "xor": None},
    )
    assert row.sentence == (
        "Trust it for this: its values add up to the change of the score; pixels that the network "
        "ignores get nothing. Not for this: another seed gives another map. Its maps correlate "
        "with the exact attribution of 2 networks by 0.75 on average."
    )
    assert Trust({"seeds": None}, {}).sentence == ""


def test_the_table_has_registered_methods_and_axioms_in_words():
    table = json.loads(trust.TABLE.read_text())
    assert len(table) > 40 and table.keys() <= cam.methods().keys()
    for name, row in table.items():
        assert row["axioms"].keys() == trust.STATEMENTS.keys()
        measured = find_trust(name)
        assert measured is not None and measured.axioms["batch"] is not None
        assert measured.axioms["batch"].holds, name
    assert find_trust("somebodys") is None
