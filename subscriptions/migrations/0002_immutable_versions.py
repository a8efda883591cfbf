"""Let the database refuse to change what is published, and to rewrite the timeline."""

from django.db import migrations

from core.triggers import vendor_sql

REFUSE_VERSION = """
CREATE FUNCTION subscriptions_refuse_version() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND OLD.status = 'published' AND NEW.status = 'archived'
       AND to_jsonb(NEW) - 'status' - 'archived_at' = to_jsonb(OLD) - 'status' - 'archived_at' THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'plan version % is published and immutable', OLD.id
        USING ERRCODE = 'integrity_constraint_violation', CONSTRAINT = 'plan_version_immutable';
END $$
"""
# FOR SHARE waits for a publication under way, which holds the version's row lock.
REFUSE_CONTENT = """
CREATE FUNCTION subscriptions_refuse_content() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    version_status text;
    version_id bigint;
BEGIN
    FOREACH version_id IN ARRAY CASE TG_OP
        WHEN 'INSERT' THEN ARRAY[NEW.plan_version_id]
        WHEN 'DELETE' THEN ARRAY[OLD.plan_version_id]
        ELSE ARRAY[OLD.plan_version_id, NEW.plan_version_id] END
    LOOP
        SELECT status INTO version_status FROM subscriptions_planversion
            WHERE id = version_id FOR SHARE;
        IF version_status <> 'draft' THEN
            RAISE EXCEPTION 'plan version % is published and immutable', version_id
                USING ERRCODE = 'integrity_constraint_violation',
                      CONSTRAINT = 'plan_version_immutable';
        END IF;
    END LOOP;
    IF TG_OP = 'DELETE' THEN RETURN OLD; END IF;
    RETURN NEW;
END $$
"""
REFUSE_TIMELINE = """
CREATE FUNCTION subscriptions_refuse_timeline() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the timeline is append-only'
        USING ERRCODE = 'integrity_constraint_violation', CONSTRAINT = 'timeline_append_only';
END $$
"""
CONTENT_TABLES = ("subscriptions_price", "subscriptions_entitlement")
UNCHANGED = " AND ".join(
    f"NEW.{column} IS OLD.{column}"
    for column in (
        "plan_id",
        "number",
        "trial_days",
        "trial_end_policy",
        "grace_seconds",
        "created_at",
        "published_at",
    )
)


def _content_trigger_sqlite(table, event):
    return f"""
    CREATE TRIGGER {table}_immutable_{event.lower()} BEFORE {event} ON {table}
    WHEN (SELECT status FROM subscriptions_planversion WHERE id = NEW.plan_version_id) <> 'draft'
    BEGIN SELECT RAISE(ABORT, 'plan_version_immutable'); END
    """


class Migration(migrations.Migration):
    dependencies = [("subscriptions", "0001_initial")]

    operations = [
        vendor_sql(
            postgresql=[
                REFUSE_VERSION,
                """
                CREATE TRIGGER plan_version_immutable
                BEFORE UPDATE OR DELETE ON subscriptions_planversion FOR EACH ROW
                WHEN (OLD.status <> 'draft') EXECUTE FUNCTION subscriptions_refuse_version()
                """,
                REFUSE_CONTENT,
                *(
                    f"""
                    CREATE TRIGGER {table}_immutable
                    BEFORE INSERT OR UPDATE OR DELETE ON {table} FOR EACH ROW
                    EXECUTE FUNCTION subscriptions_refuse_content()
                    """
                    for table in CONTENT_TABLES
                ),
                REFUSE_TIMELINE,
                """
                CREATE TRIGGER timeline_append_only
                BEFORE UPDATE OR DELETE ON subscriptions_timelineentry FOR EACH ROW
                EXECUTE FUNCTION subscriptions_refuse_timeline()
                """,
            ],
            undo_postgresql=[
                "DROP TRIGGER timeline_append_only ON subscriptions_timelineentry",
                *(f"DROP TRIGGER {table}_immutable ON {table}" for table in CONTENT_TABLES),
                "DROP TRIGGER plan_version_immutable ON subscriptions_planversion",
                "DROP FUNCTION subscriptions_refuse_timeline()",
                "DROP FUNCTION subscriptions_refuse_content()",
                "DROP FUNCTION subscriptions_refuse_version()",
            ],
            sqlite=[
                f"""
                CREATE TRIGGER plan_version_immutable BEFORE UPDATE ON subscriptions_planversion
                WHEN OLD.status <> 'draft' AND NOT (
                    OLD.status = 'published' AND NEW.status = 'archived' AND {UNCHANGED}
                )
                BEGIN SELECT RAISE(ABORT, 'plan_version_immutable'); END
                """,
                *(
                    _content_trigger_sqlite(table, event)
                    for table in CONTENT_TABLES
                    for event in ("INSERT", "UPDATE")
                ),
                """
                CREATE TRIGGER timeline_append_only BEFORE UPDATE ON subscriptions_timelineentry
                BEGIN SELECT RAISE(ABORT, 'timeline_append_only'); END
                """,
            ],
            undo_sqlite=[
                "DROP TRIGGER timeline_append_only",
                *(
                    f"DROP TRIGGER {table}_immutable_{event}"
                    for table in CONTENT_TABLES
                    for event in ("insert", "update")
                ),
                "DROP TRIGGER plan_version_immutable",
            ],
        )
    ]
