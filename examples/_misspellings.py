"""Misspellings by category: the ones that the users of the examples make."""

from __future__ import annotations

from typing import Final

# Wrong and right, as people really write them.
MISSPELLINGS: Final[dict[str, dict[str, str]]] = {
    category: dict(pair.split(":") for pair in pairs.split(", "))
    for category, pairs in {
        "ie/ei": "recieve:receive, beleive:believe, acheive:achieve, wierd:weird, freind:friend, foriegn:foreign",
        "double consonant": "occured:occurred, accomodate:accommodate, untill:until, tommorow:tomorrow, "
        "begining:beginning, embarass:embarrass, adress:address, neccessary:necessary, comittee:committee",
        "silent letter": "goverment:government, enviroment:environment, Febuary:February, libary:library, "
        "autum:autumn, dout:doubt, rythm:rhythm, Wensday:Wednesday",
        "vowel": "definately:definitely, seperate:separate, calender:calendar, grammer:grammar, "
        "existance:existence, independant:independent, relevent:relevant, desparate:desperate",
        "homophone": "should of:should have, your welcome:you're welcome, sneak peak:sneak peek, "
        "baited breath:bated breath, free reign:free rein, bare with me:bear with me",
        "word boundary": "alot:a lot, noone:no one, aswell:as well, infact:in fact, eachother:each other",
        "letter order": "becuase:because, tounge:tongue, gaurd:guard, gaurantee:guarantee, pharoah:pharaoh",
        "c or s": "concensus:consensus, supercede:supersede, ecstacy:ecstasy, sence:sense, absense:absence",
    }.items()
}
"""For each category the wrong forms, and the right one of each."""
