"""Pause and resume the collection of a subscription's invoices, by the services."""

from core.admin.operations import Asked, Consequence, Done, Operation
from core.admin.text import instant
from subscriptions.models import Subscription
from subscriptions.services import collection


class PauseCollection(Operation[Subscription]):
    """Keep what a subscription bills as drafts."""

    name = "pause_collection"
    title = "Pause collection"
    permission = "subscriptions.pay_subscription"
    icon = "money_off"

    def is_offered(self, row: Subscription) -> bool:
        """Offer it for what is live and collects."""
        return row.status in Subscription.SLOT_STATUSES and row.collection_paused_at is None

    def consequence(self, asked: Asked[Subscription]) -> Consequence:
        """Tell what is kept and what goes on."""
        return Consequence(
            sentences=(
                f"What {asked.row.customer.name} is billed from now on is kept as drafts.",
                "Access, renewals and revenue go on; what is issued already stays due.",
            )
        )

    def run(self, asked: Asked[Subscription]) -> Done:
        """Pause it."""
        collection.pause(subscription_id=asked.row.pk, actor=asked.actor, clock=asked.clock)
        return Done(message="Collection is paused.")


class ResumeCollection(Operation[Subscription]):
    """Let a subscription's drafts be issued."""

    name = "resume_collection"
    title = "Resume collection"
    permission = "subscriptions.pay_subscription"
    icon = "attach_money"

    def is_offered(self, row: Subscription) -> bool:
        """Offer it while collection is paused, also where it has ended."""
        return row.collection_paused_at is not None

    def consequence(self, asked: Asked[Subscription]) -> Consequence:
        """Tell what is issued."""
        since = instant(asked.row.collection_paused_at)
        return Consequence(
            sentences=(
                f"The drafts of {asked.row.customer.name} since {since} are issued, oldest first.",
                "Each is due as of its issue.",
            )
        )

    def run(self, asked: Asked[Subscription]) -> Done:
        """Resume it."""
        collection.resume(subscription_id=asked.row.pk, actor=asked.actor, clock=asked.clock)
        return Done(message="Collection goes on; the worker issues what was kept.")


OPERATIONS = (PauseCollection, ResumeCollection)
