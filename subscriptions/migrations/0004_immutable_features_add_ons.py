"""Let the database refuse to change what published versions mean: features, and add-ons.

SQLite's rebuilt tables get their triggers back.
"""

from django.db import migrations

from core.triggers import vendor_sql

FROZEN = ("key", "type", "plan_group_id", "scope", "is_allocated", "pool_id", "pool_rate_units")
IN_USE = """
    EXISTS (
        SELECT 1 FROM subscriptions_entitlement e
        JOIN subscriptions_planversion v ON v.id = e.plan_version_id
        WHERE e.feature_id = OLD.id AND v.status <> 'draft'
    )
"""
REFUSE_FEATURE = f"""
CREATE FUNCTION subscriptions_refuse_feature() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF {IN_USE} THEN
        RAISE EXCEPTION 'feature % is granted by a published version', OLD.id
            USING ERRCODE = 'integrity_constraint_violation', CONSTRAINT = 'feature_immutable';
    END IF;
    RETURN NEW;
END $$
"""
REFUSE_ADD_ON = """
CREATE FUNCTION subscriptions_refuse_add_on() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    published timestamptz;
    touched bigint;
BEGIN
    touched := CASE TG_OP WHEN 'DELETE' THEN OLD.add_on_id ELSE NEW.add_on_id END;
    SELECT published_at INTO published FROM subscriptions_addon WHERE id = touched FOR SHARE;
    IF published IS NOT NULL THEN
        RAISE EXCEPTION 'add-on % is published and immutable', touched
            USING ERRCODE = 'integrity_constraint_violation', CONSTRAINT = 'add_on_immutable';
    END IF;
    IF TG_OP = 'DELETE' THEN RETURN OLD; END IF;
    RETURN NEW;
END $$
"""
ADD_ON_TABLES = ("subscriptions_addonprice", "subscriptions_addonentitlement")
CHANGED = " OR ".join(f"NEW.{column} IS NOT OLD.{column}" for column in FROZEN)
CHANGED_POSTGRESQL = " OR ".join(f"NEW.{column} IS DISTINCT FROM OLD.{column}" for column in FROZEN)


def _entitlement_trigger(event):
    name = f"subscriptions_entitlement_immutable_{event.lower()}"
    return [
        f"DROP TRIGGER IF EXISTS {name}",
        f"""
        CREATE TRIGGER {name} BEFORE {event} ON subscriptions_entitlement
        WHEN (SELECT status FROM subscriptions_planversion
              WHERE id = NEW.plan_version_id) <> 'draft'
        BEGIN SELECT RAISE(ABORT, 'plan_version_immutable'); END
        """,
    ]


def _add_on_trigger(table, event):
    return f"""
    CREATE TRIGGER {table}_immutable_{event.lower()} BEFORE {event} ON {table}
    WHEN (SELECT published_at FROM subscriptions_addon WHERE id = NEW.add_on_id) IS NOT NULL
    BEGIN SELECT RAISE(ABORT, 'add_on_immutable'); END
    """


class Migration(migrations.Migration):
    dependencies = [("subscriptions", "0003_add_ons_overrides_pools")]

    operations = [
        vendor_sql(
            postgresql=[
                REFUSE_FEATURE,
                f"""
                CREATE TRIGGER feature_immutable BEFORE UPDATE ON subscriptions_feature
                FOR EACH ROW WHEN ({CHANGED_POSTGRESQL})
                EXECUTE FUNCTION subscriptions_refuse_feature()
                """,
                REFUSE_ADD_ON,
                *(
                    f"""
                    CREATE TRIGGER {table}_immutable
                    BEFORE INSERT OR UPDATE OR DELETE ON {table} FOR EACH ROW
                    EXECUTE FUNCTION subscriptions_refuse_add_on()
                    """
                    for table in ADD_ON_TABLES
                ),
            ],
            undo_postgresql=[
                *(f"DROP TRIGGER {table}_immutable ON {table}" for table in ADD_ON_TABLES),
                "DROP FUNCTION subscriptions_refuse_add_on()",
                "DROP TRIGGER feature_immutable ON subscriptions_feature",
                "DROP FUNCTION subscriptions_refuse_feature()",
            ],
            sqlite=[
                *_entitlement_trigger("INSERT"),
                *_entitlement_trigger("UPDATE"),
                f"""
                CREATE TRIGGER feature_immutable BEFORE UPDATE ON subscriptions_feature
                WHEN ({CHANGED}) AND {IN_USE}
                BEGIN SELECT RAISE(ABORT, 'feature_immutable'); END
                """,
                *(
                    _add_on_trigger(table, event)
                    for table in ADD_ON_TABLES
                    for event in ("INSERT", "UPDATE")
                ),
            ],
            undo_sqlite=[
                *(
                    f"DROP TRIGGER {table}_immutable_{event}"
                    for table in ADD_ON_TABLES
                    for event in ("insert", "update")
                ),
                "DROP TRIGGER feature_immutable",
            ],
        )
    ]
