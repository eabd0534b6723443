"""Net sales by region: a chart, a table, a workbook and a report from one CSV export.

This is guest code, written as a model writes it when asked "bar chart of sales by region, and a report I can send":
it runs inside the sandbox, finds `sales.csv` in its working directory and leaves its files there.
"""

from __future__ import annotations

import matplotlib as mpl

mpl.use("Agg")

from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from reportlab.lib import colors
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.platypus import Image, KeepTogether, Paragraph, SimpleDocTemplate, Table, TableStyle

ACCENT, MUTED, INK, PAPER = "#1F5FA8", "#A9BDD6", "#1E2A38", "#F3F6FA"


# --- read and clean -------------------------------------------------------------------------------------------


def clean(raw: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """The orders as numbers and dates, and what had to be done to get there."""
    notes = []

    def note(count: int, what: str) -> None:
        if count:
            notes.append(f"{int(count):,} {what}")

    df = raw.drop_duplicates("order_id").copy()
    note(len(raw) - len(df), "duplicate rows dropped")

    text = ["region", "city", "sales_rep", "product", "currency"]
    tidy = df[text].apply(lambda column: column.str.split().str.join(" "))
    note((tidy != df[text]).to_numpy().sum(), "cells with stray white space trimmed")
    df[text] = tidy

    names = {name.casefold(): name for name in df["region"].value_counts().index[::-1]}
    region = df["region"].str.casefold().map(names).fillna("")
    note((region != df["region"]).sum(), "region names in other spellings unified")
    region_of_city = region[region != ""].groupby(df["city"]).agg(lambda found: found.mode()[0])
    note((region == "").sum(), "missing regions filled in from the city")
    df["region"] = region.where(region != "", df["city"].map(region_of_city))

    iso = pd.to_datetime(df["order_date"], format="%Y-%m-%d", errors="coerce")
    dotted = pd.to_datetime(df["order_date"], format="%d.%m.%Y", errors="coerce")
    note(iso.isna().sum(), "dates in day.month.year form converted")
    df["order_date"] = iso.fillna(dotted)

    note(df["discount"].str.contains("%", regex=False).sum(), "discounts in per cent turned into fractions")
    percent = df["discount"].str.endswith("%")
    discount = pd.to_numeric(df["discount"].str.rstrip("%"), errors="coerce").fillna(0.0)
    df["discount"] = discount.where(~percent, discount / 100)

    note(df["amount"].str.contains("[€,]").sum(), "amounts with a currency sign or thousands separators parsed")
    df["amount"] = pd.to_numeric(df["amount"].str.replace("[€,]", "", regex=True), errors="coerce")
    df["units"] = pd.to_numeric(df["units"], errors="coerce")
    df["unit_price"] = pd.to_numeric(df["unit_price"])
    price = df["unit_price"] * (1 - df["discount"])
    note(df["amount"].isna().sum(), "missing amounts computed from units, price and discount")
    df["amount"] = df["amount"].fillna((df["units"] * price).round(2))
    note(df["units"].isna().sum(), "missing units computed from the amount")
    df["units"] = df["units"].fillna((df["amount"] / price).round()).astype(int)

    note((df["currency"] == "").sum(), "missing currencies taken as EUR, the only one in the file")
    df["currency"] = df["currency"].replace("", "EUR")
    note((df["sales_rep"] == "").sum(), 'orders without a sales rep kept as "unassigned"')
    df["sales_rep"] = df["sales_rep"].replace("", "unassigned")
    note((df["amount"] < 0).sum(), "returns kept, as negative sales")
    return df.sort_values(["order_date", "order_id"], ignore_index=True), notes


def by_region(df: pd.DataFrame) -> pd.DataFrame:
    table = df.groupby("region").agg(
        orders=("order_id", "count"),
        units=("units", "sum"),
        net_sales=("amount", "sum"),
        average_discount=("discount", "mean"),
    )
    table["returns"] = -df[df["amount"] < 0].groupby("region")["amount"].sum()
    table["returns"] = table["returns"].fillna(0.0)
    table["share"] = table["net_sales"] / table["net_sales"].sum()
    table["average_order"] = table["net_sales"] / table["orders"]
    decimals = {"net_sales": 2, "returns": 2, "average_order": 2, "share": 6, "average_discount": 4}
    return table.sort_values("net_sales", ascending=False).reset_index().round(decimals)


# --- the chart ------------------------------------------------------------------------------------------------


def draw_chart(table: pd.DataFrame, period: str, path: str) -> None:
    plt.rcParams.update({"font.family": "DejaVu Sans", "text.color": INK, "axes.labelcolor": INK})
    fig, ax = plt.subplots(figsize=(10, 5.6), dpi=160, layout="constrained")
    fig.get_layout_engine().set(w_pad=0.25, h_pad=0.25)
    thousands = table["net_sales"] / 1e3
    bars = ax.bar(table["region"], thousands, width=0.66, color=[ACCENT] + [MUTED] * (len(table) - 1))
    labels = [f"€{value:,.0f}k\n{share:.0%}" for value, share in zip(thousands, table["share"], strict=True)]
    ax.bar_label(bars, labels, padding=5, fontsize=11, linespacing=1.4, color=INK)

    leader = table.iloc[0]
    title = f"{leader['region']} brings in {leader['share']:.0%} of net sales"
    subtitle = f"Net sales by region, {period}. Thousand euros and share of the total, returns deducted."
    ax.set_title(title, loc="left", fontsize=17, pad=34, weight="bold")
    ax.text(0, 1.045, subtitle, transform=ax.transAxes, fontsize=10.5, color="#566273")
    ax.set_ylim(0, thousands.max() * 1.2)
    ax.yaxis.set_visible(False)  # each bar says its value
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.spines["bottom"].set_color("#8895A5")
    ax.tick_params(length=0, pad=7, colors=INK, labelsize=11)
    fig.savefig(path)
    plt.close(fig)


# --- the workbook ---------------------------------------------------------------------------------------------


def write_workbook(table: pd.DataFrame, df: pd.DataFrame, path: str) -> None:
    sheets = {
        "By region": (
            table,
            {
                "net_sales": "money",
                "returns": "money",
                "average_order": "money",
                "share": "percent",
                "average_discount": "percent",
            },
        ),
        "Orders": (df, {"order_date": "date", "unit_price": "money", "amount": "money", "discount": "percent"}),
    }
    with pd.ExcelWriter(path, engine="xlsxwriter", datetime_format="yyyy-mm-dd") as writer:
        book = writer.book
        head = book.add_format(
            {"bold": True, "font_color": "white", "bg_color": ACCENT, "valign": "vcenter", "border": 0}
        )
        formats = {
            "money": book.add_format({"num_format": "€#,##0.00;[Red]-€#,##0.00"}),
            "percent": book.add_format({"num_format": "0.0%"}),
            "date": book.add_format({"num_format": "yyyy-mm-dd"}),
            "whole": book.add_format({"num_format": "#,##0"}),
        }
        for name, (frame, kinds) in sheets.items():
            frame.to_excel(writer, sheet_name=name, index=False, startrow=1, header=False)
            sheet = writer.sheets[name]
            sheet.set_row(0, 22)
            for column, title in enumerate(frame.columns):
                sheet.write(0, column, title.replace("_", " ").capitalize(), head)
                kind = kinds.get(title, "whole" if frame[title].dtype.kind == "i" else "")
                widest = frame[title].astype(str).str.len().max() if frame[title].dtype.kind == "O" else 0
                width = max(len(title) + 3, widest + 2, {"money": 15, "date": 12}.get(kind, 0))
                sheet.set_column(column, column, width, formats.get(kind))
            sheet.freeze_panes(1, 1)
            sheet.autofilter(0, 0, len(frame), len(frame.columns) - 1)


# --- the report -----------------------------------------------------------------------------------------------


def write_report(table: pd.DataFrame, df: pd.DataFrame, notes: list[str], period: str, chart: str, path: str) -> None:
    fonts = Path(mpl.get_data_path(), "fonts", "ttf")
    pdfmetrics.registerFont(TTFont("Text", fonts / "DejaVuSans.ttf"))
    pdfmetrics.registerFont(TTFont("Bold", fonts / "DejaVuSans-Bold.ttf"))
    title = ParagraphStyle("title", fontName="Bold", fontSize=19, leading=24, textColor=INK)
    lead = ParagraphStyle("lead", fontName="Text", fontSize=9.5, leading=14.5, textColor=INK, spaceAfter=4 * mm)
    heading = ParagraphStyle("heading", parent=title, fontSize=12, leading=16, spaceBefore=5 * mm, spaceAfter=2 * mm)
    item = ParagraphStyle("item", parent=lead, leftIndent=5 * mm, bulletIndent=1 * mm, spaceAfter=0)

    top, last = table.iloc[0], table.iloc[-1]
    total, returns = table["net_sales"].sum(), table["returns"].sum()
    best = df.groupby("product")["amount"].sum().sort_values(ascending=False).head(7)
    people = (
        df[df["sales_rep"] != "unassigned"].groupby(["sales_rep", "region"])["amount"].agg(sold="sum", orders="count")
    )
    people = people.sort_values("sold", ascending=False).head(10).reset_index()
    summary = (
        f"Net sales came to <font name='Bold'>€{total:,.0f}</font> from {len(df):,} orders. "
        f"{top['region']} leads with €{top['net_sales']:,.0f}, {top['share']:.0%} of the total; "
        f"{last['region']} is smallest with €{last['net_sales']:,.0f}. "
        f"Returns took back €{returns:,.0f}, {returns / (total + returns):.1%} of gross sales. "
        f"The best-selling product is the {best.index[0]} (€{best.iloc[0]:,.0f}); "
        f"{people['sales_rep'][0]} sold most (€{people['sold'][0]:,.0f})."
    )
    regions = [["Region", "Orders", "Units", "Net sales", "Share", "Average order", "Returns"]]
    regions += [
        [
            r.region,
            f"{r.orders:,}",
            f"{r.units:,}",
            f"€{r.net_sales:,.0f}",
            f"{r.share:.1%}",
            f"€{r.average_order:,.2f}",
            f"€{r.returns:,.0f}",
        ]
        for r in table.itertuples()
    ]
    regions.append(
        [
            "Total",
            f"{table['orders'].sum():,}",
            f"{table['units'].sum():,}",
            f"€{total:,.0f}",
            "100.0%",
            f"€{total / len(df):,.2f}",
            f"€{returns:,.0f}",
        ]
    )
    sold = [["Product", "Net sales", "Share"]]
    sold += [[name, f"€{value:,.0f}", f"{value / total:.1%}"] for name, value in best.items()]
    sellers = [["Sales rep", "Region", "Orders", "Net sales"]]
    sellers += [[row.sales_rep, row.region, f"{row.orders:,}", f"€{row.sold:,.0f}"] for row in people.itertuples()]

    def footer(canvas, doc) -> None:
        canvas.setFont("Text", 8)
        canvas.setFillColor(colors.HexColor("#6B7889"))
        canvas.drawString(doc.leftMargin + 6, 11 * mm, f"Source: sales.csv, {len(df):,} orders after cleaning")
        canvas.drawRightString(A4[0] - doc.rightMargin - 6, 11 * mm, f"Page {doc.page}")

    story = [
        Paragraph("Sales by region", title),
        Paragraph(period, ParagraphStyle("period", parent=lead, textColor="#6B7889")),
        Paragraph(summary, lead),
        Image(chart, width=166 * mm, height=166 * mm * 5.6 / 10),
        Paragraph("The regions in figures", heading),
        styled(regions, [38, 17, 17, 27, 17, 29, 21], total=True),
        KeepTogether([Paragraph("Best-selling products", heading), styled(sold, [90, 46, 30])]),
        KeepTogether([Paragraph("Sales people", heading), styled(sellers, [60, 46, 24, 36], text_columns=2)]),
        Paragraph("How the data was cleaned", heading),
        *[Paragraph(line, item, bulletText="•") for line in notes],
    ]
    margins = {"leftMargin": 20 * mm, "rightMargin": 20 * mm, "topMargin": 18 * mm, "bottomMargin": 20 * mm}
    SimpleDocTemplate(path, pagesize=A4, title="Sales by region", author="", **margins).build(story, footer, footer)


def styled(rows: list[list[str]], widths_mm: list[int], *, text_columns: int = 1, total: bool = False) -> Table:
    style = [
        ("FONT", (0, 0), (-1, -1), "Text", 8.5),
        ("FONT", (0, 0), (-1, 0), "Bold", 8.5),
        ("TEXTCOLOR", (0, 0), (-1, 0), colors.white),
        ("BACKGROUND", (0, 0), (-1, 0), colors.HexColor(ACCENT)),
        ("ROWBACKGROUNDS", (0, 1), (-1, -1), [colors.white, colors.HexColor(PAPER)]),
        ("ALIGN", (text_columns, 0), (-1, -1), "RIGHT"),
        ("LINEBELOW", (0, -1), (-1, -1), 0.6, colors.HexColor("#8895A5")),
    ]
    if total:
        style += [
            ("FONT", (0, -1), (-1, -1), "Bold", 8.5),
            ("LINEABOVE", (0, -1), (-1, -1), 0.6, colors.HexColor("#8895A5")),
        ]
    return Table(
        rows, colWidths=[width * mm for width in widths_mm], style=TableStyle(style), hAlign="LEFT", repeatRows=1
    )


# --- all of it ------------------------------------------------------------------------------------------------

raw = pd.read_csv("sales.csv", dtype=str, keep_default_na=False)
df, notes = clean(raw)
table = by_region(df)
period = f"{df['order_date'].min():%B %Y} to {df['order_date'].max():%B %Y}"

print(f"Read {len(raw):,} rows, kept {len(df):,} orders. Cleaning:")
for line in notes:
    print(f"  - {line}")

draw_chart(table, period, "sales_by_region.png")
table.to_csv("sales_by_region.csv", index=False)
write_workbook(table, df, "sales.xlsx")
write_report(table, df, notes, period, "sales_by_region.png", "sales_report.pdf")

print(f"\nNet sales by region, {period} (EUR):")
for row in table.itertuples():
    print(f"  {row.region:<18}{row.net_sales:>14,.2f}  {row.share:6.1%}")
print(f"  {'Total':<18}{table['net_sales'].sum():>14,.2f}")
print(f"\n{table['region'][0]} sells most: {table['share'][0]:.0%} of all net sales.")
