"""Let the database refuse to change issued invoices, and to rewrite what money did."""

from django.db import migrations

from core.triggers import vendor_sql

APPEND_ONLY = (
    "billing_payment",
    "billing_balanceentry",
    "billing_mrrmovement",
    "billing_creditnote",
)
FROZEN = (
    "customer_id",
    "subscription_id",
    "redemption_id",
    "issuer_id",
    "number",
    "label",
    "currency",
    "subtotal_minor",
    "discount_minor",
    "tax_minor",
    "total_minor",
    "balance_minor",
    "parties",
    "billed_at",
    "issued_at",
    "due_at",
)
LINE_FROZEN = (
    "invoice_id",
    "subscription_id",
    "kind",
    "item",
    "description",
    "quantity",
    "amount_minor",
    "discount_minor",
    "is_discountable",
    "price_id",
    "add_on_price_id",
    "metered_price_id",
    "credits_id",
    "share_remaining",
    "share_total",
    "entries",
    "last_entry_id",
)
CHANGED = " OR ".join(f"NEW.{column} IS DISTINCT FROM OLD.{column}" for column in FROZEN)
CHANGED_SQLITE = " OR ".join(f"NEW.{column} IS NOT OLD.{column}" for column in FROZEN)
LINE_CHANGED = " OR ".join(f"NEW.{column} IS DISTINCT FROM OLD.{column}" for column in LINE_FROZEN)
LINE_CHANGED_SQLITE = " OR ".join(f"NEW.{column} IS NOT OLD.{column}" for column in LINE_FROZEN)
MOVES = """
    NEW.status <> OLD.status AND NOT (
        (OLD.status = 'open' AND NEW.status IN ('paid', 'void', 'uncollectible'))
        OR (OLD.status = 'uncollectible' AND NEW.status IN ('paid', 'void'))
    )
"""
REFUSE_INVOICE = f"""
CREATE FUNCTION billing_refuse_invoice() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' OR {CHANGED} OR ({MOVES}) OR (
        NEW.status = OLD.status AND OLD.status IN ('paid', 'void')
    ) THEN
        RAISE EXCEPTION 'invoice % is issued and immutable', OLD.id
            USING ERRCODE = 'integrity_constraint_violation', CONSTRAINT = 'invoice_immutable';
    END IF;
    RETURN NEW;
END $$
"""
# The period of a first invoice is empty until its payment starts it, once.
REFUSE_LINE = f"""
CREATE FUNCTION billing_refuse_line() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    state text;
BEGIN
    SELECT status INTO state FROM billing_invoice
        WHERE id = CASE TG_OP WHEN 'INSERT' THEN NEW.invoice_id ELSE OLD.invoice_id END;
    IF TG_OP = 'UPDATE' AND OLD.starts_at IS NULL AND NOT ({LINE_CHANGED}) THEN
        RETURN NEW;
    END IF;
    IF state <> 'draft' THEN
        RAISE EXCEPTION 'the invoice is issued and immutable'
            USING ERRCODE = 'integrity_constraint_violation', CONSTRAINT = 'invoice_immutable';
    END IF;
    IF TG_OP = 'DELETE' THEN RETURN OLD; END IF;
    RETURN NEW;
END $$
"""
REFUSE_REWRITE = """
CREATE FUNCTION billing_refuse_rewrite() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME
        USING ERRCODE = 'integrity_constraint_violation', CONSTRAINT = 'billing_append_only';
END $$
"""
STATE = "(SELECT status FROM billing_invoice WHERE id = {}.invoice_id) <> 'draft'"


class Migration(migrations.Migration):
    dependencies = [("billing", "0001_initial")]

    operations = [
        vendor_sql(
            postgresql=[
                REFUSE_INVOICE,
                """
                CREATE TRIGGER invoice_immutable BEFORE UPDATE OR DELETE ON billing_invoice
                FOR EACH ROW WHEN (OLD.status <> 'draft')
                EXECUTE FUNCTION billing_refuse_invoice()
                """,
                REFUSE_LINE,
                """
                CREATE TRIGGER invoice_line_immutable
                BEFORE INSERT OR UPDATE OR DELETE ON billing_invoiceline
                FOR EACH ROW EXECUTE FUNCTION billing_refuse_line()
                """,
                REFUSE_REWRITE,
                *(
                    f"""
                    CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE ON {table}
                    FOR EACH ROW EXECUTE FUNCTION billing_refuse_rewrite()
                    """
                    for table in APPEND_ONLY
                ),
            ],
            undo_postgresql=[
                *(f"DROP TRIGGER {table}_append_only ON {table}" for table in APPEND_ONLY),
                "DROP FUNCTION billing_refuse_rewrite()",
                "DROP TRIGGER invoice_line_immutable ON billing_invoiceline",
                "DROP FUNCTION billing_refuse_line()",
                "DROP TRIGGER invoice_immutable ON billing_invoice",
                "DROP FUNCTION billing_refuse_invoice()",
            ],
            sqlite=[
                f"""
                CREATE TRIGGER invoice_immutable BEFORE UPDATE ON billing_invoice
                WHEN OLD.status <> 'draft' AND ({CHANGED_SQLITE} OR ({MOVES}) OR (
                    NEW.status = OLD.status AND OLD.status IN ('paid', 'void')
                ))
                BEGIN SELECT RAISE(ABORT, 'invoice_immutable'); END
                """,
                f"""
                CREATE TRIGGER invoice_line_immutable_insert BEFORE INSERT ON billing_invoiceline
                WHEN {STATE.format("NEW")}
                BEGIN SELECT RAISE(ABORT, 'invoice_immutable'); END
                """,
                f"""
                CREATE TRIGGER invoice_line_immutable_update BEFORE UPDATE ON billing_invoiceline
                WHEN {STATE.format("OLD")}
                    AND (OLD.starts_at IS NOT NULL OR {LINE_CHANGED_SQLITE})
                BEGIN SELECT RAISE(ABORT, 'invoice_immutable'); END
                """,
                *(
                    f"""
                    CREATE TRIGGER {table}_append_only BEFORE UPDATE ON {table}
                    BEGIN SELECT RAISE(ABORT, 'billing_append_only'); END
                    """
                    for table in APPEND_ONLY
                ),
            ],
            undo_sqlite=[
                *(f"DROP TRIGGER {table}_append_only" for table in APPEND_ONLY),
                "DROP TRIGGER invoice_line_immutable_update",
                "DROP TRIGGER invoice_line_immutable_insert",
                "DROP TRIGGER invoice_immutable",
            ],
        )
    ]
