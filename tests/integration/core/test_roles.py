"""Roles are groups that hold exactly what the table says."""

import pytest
from django.contrib.auth.models import Group, Permission
from django.core.management import CommandError, call_command

from core.services import roles
from subscriptionEngine import roles as table
from tests import factories

pytestmark = pytest.mark.django_db


def granted(role: str) -> set[str]:
    group = Group.objects.get(name=role)
    return set(group.permissions.values_list("codename", flat=True))


class TestRoles:
    def test_are_made_by_the_command_and_by_repeating_it_mended(self, at, capsys):
        call_command("roles")
        first = {role: granted(role) for role in table.ROLES}
        member = factories.make_user(at=at)
        member.groups.add(Group.objects.get(name="support"))
        Group.objects.get(name="support").permissions.set(Permission.objects.all())
        Group.objects.get(name="finance").permissions.clear()
        call_command("roles")
        assert {role: granted(role) for role in table.ROLES} == first
        assert [group.name for group in member.groups.all()] == ["support"]
        assert "support: " in capsys.readouterr().out

    def test_that_only_read_hold_nothing_but_views(self):
        call_command("roles")
        assert {name.partition("_")[0] for name in granted("read-only")} == {"view"}
        assert "view_servicekey" not in granted("read-only")

    def test_with_a_pattern_that_names_nothing_change_nothing(self, monkeypatch):
        call_command("roles")
        before = granted("finance")
        wrong = {"finance": ["core.view_user"], "support": ["core.viw_user"]}
        monkeypatch.setattr("subscriptionEngine.management.commands.roles.ROLES", wrong)
        with pytest.raises(CommandError, match=r"core\.viw_user names no permission"):
            call_command("roles")
        assert granted("finance") == before

    def test_say_how_much_each_may_do(self):
        table = {"reader": ["core.view_user", "core.view_*"]}
        made = roles.make(table=table, declared=())
        assert made == [roles.Granted(role="reader", permissions=len(granted("reader")))]

    def test_know_every_permission_that_an_operation_declares(self):
        assert not Permission.objects.filter(codename="publish_planversion").exists()
        call_command("roles")
        made = Permission.objects.get(codename="publish_planversion")
        assert (made.name, made.content_type.model) == ("Can publish plan version", "planversion")
        assert "publish_planversion" in granted("catalog manager")
        assert "publish_planversion" not in granted("support")
