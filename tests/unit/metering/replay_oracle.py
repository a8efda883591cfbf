"""Replay by brute force: every unit is a token, every instant is visited, nothing is remembered.

It shares no code and no structure with the engine: totals are counts of tokens, boundaries are
chained in elapsed time. So it is slow, and knows intervals of hours and days in UTC alone.
"""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta

FAR = datetime.fromisoformat("9000-01-01T00:00:00Z")


@dataclass
class Token:
    """One unit of an item: on a grant, as overage, or forgiven."""

    item: str
    at: datetime
    turn: int
    period: datetime
    where: str = "overage"
    grant: str = ""
    epoch: int = 0
    burnt: int = 0
    burnt_in: datetime | None = None


def at_of(text):
    return datetime.fromisoformat(text) if text else None


def width_of(recurrence):
    count, unit = re.fullmatch(r"PT?(\d+)([HD])", recurrence["interval"]).groups()
    return timedelta(hours=int(count) * {"H": 1, "D": 24}[unit])


def steps(recurrence, start, end):
    """Return the instants of a recurrence in `(start, end]`."""
    width = width_of(recurrence)
    instant = at_of(recurrence["anchor"])
    while instant > start:
        instant -= width
    found = []
    while instant <= end:
        if instant > start:
            found.append(instant)
        instant += width
    return found


class Oracle:
    def __init__(self, timeline):
        self.timeline = timeline
        self.start = at_of(timeline["measure_from"])
        self.grants = {grant["id"]: dict(grant) for grant in timeline["grants"]}
        self.left = {}
        self.epochs = dict.fromkeys(self.grants, 0)
        self.tokens = []
        self.burns = 0
        self.resets = {
            at_of(each["at"]): each
            for each in timeline["resets"]
            if at_of(each["at"]) >= self.start
        }
        self.opened = [self.start]

    def answers(self):
        wanted = [at_of(each["at"]) for each in self.timeline["queries"]]
        found = {}
        for at in sorted(self.instants(max(wanted))):
            self.arrive(at)
            found[at] = self.answer(at)
            self.depart(at)
        return [found[at] for at in wanted]

    def instants(self, end):
        found = {self.start, *self.resets, *self.boundaries(end)}
        found |= {at_of(each["at"]) for each in self.timeline["queries"]}
        for grant in self.grants.values():
            found |= {at_of(grant["effective_at"]), *(at_of(a["at"]) for a in grant["amounts"])}
            found |= set(self.recurrences(grant, end))
        for usage in self.timeline["usage"]:
            found |= {at_of(usage["at"]), *(at_of(each["at"]) for each in usage["returns"])}
        return {at for at in found if self.start <= at <= end}

    def boundaries(self, end):
        """Return the scheduled resets: the grid is cut off and moved by resets by hand."""
        grid, found, since = self.timeline["usage_period"], [], self.start
        if grid is None:
            return []
        for by_hand in [*sorted(self.resets), None]:
            until = by_hand or end
            found += steps(grid, since, until)
            if by_hand and not self.resets[by_hand].get("retain_anchor"):
                grid = grid | {"anchor": by_hand.isoformat()}
            since = by_hand
        return found

    def recurrences(self, grant, end):
        if not grant["recurrence"]:
            return []
        starts_at = max(at_of(grant["effective_at"]), self.start)
        return steps(grant["recurrence"], starts_at, end)

    def active(self, name, at):
        grant = self.grants[name]
        ends = [at_of(grant[key]) for key in ("expires_at", "voided_at") if grant[key]]
        return at_of(grant["effective_at"]) <= at < min(ends, default=FAR)

    def best(self, at):
        """Return the grant that burns first at an instant."""

        def rank(name):
            grant = self.grants[name]
            ends = at_of(grant["expires_at"]) or FAR
            if grant["refill_at_reset"]:
                ends = min(ends, self.period_ends_at(at) or FAR)
            return (
                grant["priority"],
                ends,
                0 if grant["category"] == "promotional" else 1,
                at_of(grant["effective_at"]),
                at_of(grant["created_at"]),
                name,
            )

        having = [name for name, left in self.left.items() if left and self.active(name, at)]
        return min(having, key=rank, default=None)

    def period_ends_at(self, at):
        grid = self.timeline["usage_period"]
        if grid is None:
            return None
        for by_hand in sorted(self.resets):
            if by_hand <= at and not self.resets[by_hand].get("retain_anchor"):
                grid = grid | {"anchor": by_hand.isoformat()}
        return steps(grid, at, at + width_of(grid))[0]

    def arrive(self, at):
        self.returns(at)
        if at in self.resets or (at > self.start and at in self.boundaries(at)):
            self.reset(at)
        for name in sorted(self.grants):
            self.amounts(name, at)
        self.cover(at)
        for name, grant in self.grants.items():
            if self.active(name, at) and at in self.recurrences(grant, at):
                self.left[name] = grant["amount"]
                self.epochs[name] += 1
            if at == max(at_of(grant["effective_at"]), self.start) and self.active(name, at):
                self.left[name] = grant["amount"]
        self.cover(at)

    def returns(self, at):
        for usage in sorted(self.timeline["usage"], key=lambda each: (each["at"], each["id"])):
            for given_back in usage["returns"]:
                is_later = at_of(given_back["at"]) > at_of(usage["at"]) >= self.start
                if at_of(given_back["at"]) == at and is_later:
                    self.give_back(usage["id"], given_back["value"], at)

    def depart(self, at):
        usage = [each for each in self.timeline["usage"] if at_of(each["at"]) == at]
        for turn, each in enumerate(sorted(usage, key=lambda each: each["id"])):
            early = [back["value"] for back in each["returns"] if at_of(back["at"]) <= at]
            for _ in range(each["value"] - sum(early)):
                token = Token(item=each["id"], at=at, turn=turn, period=self.opened[-1])
                self.tokens.append(token)
                self.place(token, at)

    def place(self, token, at):
        """Let a token burn a unit of the best grant; without one it is overage."""
        name = self.best(at)
        if name is not None:
            self.left[name] -= 1
            self.burns += 1
            token.where, token.grant, token.epoch = "grant", name, self.epochs[name]
            token.burnt, token.burnt_in = self.burns, self.opened[-1]

    def cover(self, at):
        waiting = [each for each in self.tokens if each.where == "overage"]
        for token in sorted(waiting, key=lambda each: (each.at, each.turn)):
            self.place(token, at)

    def give_back(self, item, units, at):
        for _ in range(units):
            rank = {"overage": 0, "forgiven": 1, "grant": 2}
            mine = [each for each in self.tokens if each.item == item]
            token = min(mine, key=lambda each: (rank[each.where], -each.burnt))
            self.tokens.remove(token)
            if token.where == "grant" and self.takes_back(token, at):
                self.left[token.grant] += 1
        self.cover(at)

    def takes_back(self, token, at):
        return self.active(token.grant, at) and self.epochs[token.grant] == token.epoch

    def reset(self, at):
        self.opened.append(at)
        for name in self.left:
            if self.active(name, at):
                self.roll_over(name)
        by_hand = self.resets.get(at, {}).get("preserve_overage")
        preserves = self.timeline["preserve_overage_at_reset"] if by_hand is None else by_hand
        if not preserves:
            for token in self.tokens:
                token.where = "forgiven" if token.where == "overage" else token.where
        self.cover(at)

    def roll_over(self, name):
        grant, before = self.grants[name], self.left[name]
        least = grant.get("rollover_min", 0)
        most = grant.get("rollover_max", 0 if grant["refill_at_reset"] else grant["amount"])
        self.left[name] = max(least, before)
        if most is not None:
            self.left[name] = min(most, self.left[name])
        if self.left[name] != before or grant["refill_at_reset"]:
            self.epochs[name] += 1
        if grant["refill_at_reset"]:
            self.left[name] += grant["amount"]

    def amounts(self, name, at):
        grant = self.grants[name]
        past = [a for a in grant["amounts"] if max(at_of(a["at"]), self.start) == at]
        for amount in sorted(past, key=lambda each: each["at"]):
            change = amount["amount"] - grant["amount"]
            grant["amount"] = amount["amount"]
            if name in self.left and self.active(name, at):
                self.left[name] += change
                self.uncover(name, at)

    def uncover(self, name, at):
        while self.left[name] < 0:
            burnt = [each for each in self.tokens if each.where == "grant" and each.grant == name]
            burnt = [each for each in burnt if each.epoch == self.epochs[name]]
            if burnt:
                max(burnt, key=lambda each: each.burnt).where = "overage"
            else:
                self.tokens.append(Token(item="", at=at, turn=-1, period=FAR))
            self.left[name] += 1

    def answer(self, at):
        balances = {name: left for name, left in self.left.items() if self.active(name, at)}
        here = self.opened[-1]
        burnt = [each for each in self.tokens if each.where == "grant" and each.burnt_in == here]
        return {
            "at": at,
            "balances": balances,
            "balance": sum(balances.values()),
            "overage": sum(each.where == "overage" for each in self.tokens),
            "usage_in_period": sum(each.period == here for each in self.tokens),
            "grant_used_in_period": len(burnt),
            "granted_in_period": len(burnt) + sum(balances.values()),
            "period": {"starts_at": here, "ends_at": self.period_ends_at(at)},
            "has_access": sum(balances.values()) > 0 or self.timeline["is_soft_limit"],
        }
