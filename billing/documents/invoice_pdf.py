"""Print an invoice: one A4 page or more, the same bytes for the same invoice.

Everything printed was frozen when the invoice was issued, but for what was paid since.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from fpdf import FPDF
from fpdf.enums import XPos, YPos

from billing.models import Invoice, InvoiceLine
from core import money

TYPE = "application/pdf"
FONTS = Path(__file__).resolve().parent.parent / "fonts"
FONT = "DejaVu"
INK, MUTED, RULE, ACCENT = (24, 24, 27), (102, 102, 112), (220, 220, 226), (67, 56, 202)
MARGIN_MM = 20.0
WIDTH_MM = 210 - 2 * MARGIN_MM
COLUMNS_MM = (112.0, 18.0, 40.0)
TOTAL_MM = 60.0
ROW_MM = 6.0
FOOT_MM = 26.0
STAMPS = {"paid": "Paid", "void": "Void", "uncollectible": "Uncollectible", "open": "Open"}


class _Page(FPDF):
    """An A4 page with the engine's fonts, and its number at the foot."""

    def __init__(self, *, label: str) -> None:
        super().__init__(format="A4")
        self.label = label
        self.add_font(FONT, fname=FONTS / "DejaVuSans.ttf")
        self.add_font(FONT, style="B", fname=FONTS / "DejaVuSans-Bold.ttf")
        self.set_margins(MARGIN_MM, MARGIN_MM)
        self.set_auto_page_break(auto=True, margin=FOOT_MM)

    def footer(self) -> None:
        """Print page and number at the foot of each page.

        How many pages there are is filled in at the end, so what follows it would not align.
        """
        self.set_y(-15)
        self.ink(MUTED, size=8)
        self.cell(WIDTH_MM / 2, 5, f"Page {self.page_no()} of {{nb}}")
        self.cell(WIDTH_MM / 2, 5, self.label, align="R")

    def ink(self, color: tuple[int, int, int], *, size: float, style: str = "") -> None:
        """Choose colour, size in points and style of what is printed next."""
        self.set_text_color(*color)
        self.set_font(FONT, style, size)

    def rule(self) -> None:
        """Draw a line across the page."""
        self.set_draw_color(*RULE)
        self.set_line_width(0.2)
        self.line(MARGIN_MM, self.get_y(), MARGIN_MM + WIDTH_MM, self.get_y())


def render(*, invoice: Invoice, lines: Sequence[InvoiceLine]) -> bytes:
    """Return the invoice as a PDF; the invoice is issued."""
    page = _Page(label=invoice.label)
    page.set_title(f"Invoice {invoice.label}")
    page.set_creation_date(invoice.issued_at or invoice.billed_at)
    page.add_page()
    _print_head(page, invoice)
    _print_parties(page, invoice)
    _print_lines(page, invoice, lines)
    _print_totals(page, invoice)
    _print_foot(page, invoice)
    return bytes(page.output())


def _print_head(page: _Page, invoice: Invoice) -> None:
    issuer = invoice.parties.get("issuer", {})
    page.ink(INK, size=13, style="B")
    page.cell(WIDTH_MM / 2, 9, str(issuer.get("name", "")))
    page.ink(ACCENT, size=20, style="B")
    page.cell(WIDTH_MM / 2, 9, "Invoice", align="R", new_x=XPos.LMARGIN, new_y=YPos.NEXT)
    page.ink(MUTED, size=9)
    top = page.get_y()
    tax_id = str(issuer.get("tax_id", ""))
    page.multi_cell(
        WIDTH_MM / 2,
        4.6,
        "\n".join(filter(None, [str(issuer.get("address", "")), tax_id])),
        align="L",
    )
    bottom = page.get_y()
    page.set_xy(MARGIN_MM + WIDTH_MM / 2, top)
    page.ink(INK, size=10)
    page.cell(WIDTH_MM / 2, 5, invoice.label, align="R", new_x=XPos.LMARGIN, new_y=YPos.NEXT)
    page.set_y(max(bottom, page.get_y()) + 8)


def _print_parties(page: _Page, invoice: Invoice) -> None:
    customer = invoice.parties.get("customer", {})
    facts = [
        ("Billed to", f"{customer.get('name', '')}"),
        ("Customer", f"{customer.get('key', '')}"),
        ("Issued", _day(invoice.issued_at)),
        ("Due", _day(invoice.due_at)),
        ("Status", STAMPS.get(invoice.status, invoice.status)),
    ]
    if invoice.paid_at is not None:
        facts.append(("Paid", _day(invoice.paid_at)))
    for name, value in facts:
        page.ink(MUTED, size=9)
        page.cell(28, 5.4, name)
        page.ink(INK, size=9)
        page.multi_cell(WIDTH_MM - 28, 5.4, value, align="L", new_x=XPos.LMARGIN, new_y=YPos.NEXT)
    page.ln(8)


def _print_lines(page: _Page, invoice: Invoice, lines: Sequence[InvoiceLine]) -> None:
    _print_line_heads(page)
    for line in lines:
        if page.get_y() > page.h - FOOT_MM - 3 * ROW_MM:
            page.add_page()
            _print_line_heads(page)
        page.ink(INK, size=9)
        top = page.get_y()
        page.multi_cell(
            COLUMNS_MM[0], 5, line.description, new_x=XPos.LMARGIN, new_y=YPos.NEXT, align="L"
        )
        page.ink(MUTED, size=8)
        page.cell(COLUMNS_MM[0], 4.6, _span(line), new_x=XPos.LMARGIN, new_y=YPos.NEXT)
        bottom = page.get_y()
        page.set_xy(MARGIN_MM + COLUMNS_MM[0], top)
        page.ink(INK, size=9)
        page.cell(COLUMNS_MM[1], 5, f"{line.quantity:,}", align="R")
        amount = money.display(line.amount_minor, currency=invoice.currency)
        page.cell(COLUMNS_MM[2], 5, amount, align="R")
        page.set_xy(MARGIN_MM, bottom + 1.4)
        page.rule()
        page.ln(1.4)


def _print_line_heads(page: _Page) -> None:
    page.ink(MUTED, size=8, style="B")
    for name, width, align in zip(
        ("Description", "Quantity", "Amount"), COLUMNS_MM, ("L", "R", "R"), strict=True
    ):
        page.cell(width, ROW_MM, name, align=align)
    page.ln(ROW_MM)
    page.rule()
    page.ln(1.4)


def _print_totals(page: _Page, invoice: Invoice) -> None:
    rows = [("Subtotal", invoice.subtotal_minor, True)]
    rows += [("Discount", -invoice.discount_minor, bool(invoice.discount_minor))]
    rows += [("Tax", invoice.tax_minor or 0, invoice.tax_minor is not None)]
    rows += [("Total", invoice.total_minor, True)]
    rows += [("Credit notes", -invoice.credited_minor, bool(invoice.credited_minor))]
    rows += [("From your balance", -invoice.balance_minor, invoice.balance_minor > 0)]
    rows += [("Added to your balance", -invoice.balance_minor, invoice.balance_minor < 0)]
    rows += [("Paid", -invoice.paid_minor, bool(invoice.paid_minor))]
    if page.get_y() > page.h - FOOT_MM - (len(rows) + 1) * ROW_MM:
        page.add_page()
    page.ln(2)
    for name, amount, is_shown in rows:
        if is_shown:
            _print_total(page, name, amount, invoice.currency, size=9, style="")
    page.ln(1)
    _print_total(page, "Amount due", invoice.due_minor, invoice.currency, size=11, style="B")


def _print_total(
    page: _Page, name: str, amount_minor: int, currency: str, *, size: float, style: str
) -> None:
    page.ink(MUTED if not style else INK, size=size, style=style)
    page.cell(WIDTH_MM - TOTAL_MM, ROW_MM, name, align="R")
    page.ink(INK, size=size, style=style)
    shown = money.display(amount_minor, currency=currency)
    page.cell(TOTAL_MM, ROW_MM, shown, align="R", new_x=XPos.LMARGIN, new_y=YPos.NEXT)


def _print_foot(page: _Page, invoice: Invoice) -> None:
    told = str(invoice.parties.get("issuer", {}).get("payment_instructions", ""))
    if not told or not invoice.due_minor:
        return
    page.ln(8)
    page.ink(INK, size=9, style="B")
    page.cell(WIDTH_MM, 5, "How to pay", new_x=XPos.LMARGIN, new_y=YPos.NEXT)
    page.ink(MUTED, size=9)
    page.multi_cell(WIDTH_MM, 4.8, told, align="L")


def _span(line: InvoiceLine) -> str:
    """Return the half-open period of the line, in UTC."""
    if line.starts_at is None or line.ends_at is None:
        return "from the first payment on"
    return f"{_moment(line.starts_at)} – {_moment(line.ends_at)}"


def _moment(instant: datetime) -> str:
    local = instant.astimezone(UTC)
    is_midnight = (local.hour, local.minute, local.second) == (0, 0, 0)
    return _day(local) if is_midnight else f"{_day(local)}, {local:%H:%M} UTC"


def _day(instant: datetime | None) -> str:
    return "" if instant is None else f"{instant.astimezone(UTC):%d %B %Y}".lstrip("0")
