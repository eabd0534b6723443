"""Writes sales.csv, the sample data: 21 months of orders of an outdoor outfitter, with the dirt of real exports.

    python examples/data/make_sales.py [FOLDER]

The seed is fixed: the file is the same, byte for byte, on every machine and every Python.
"""

from __future__ import annotations

import csv
import random
import sys
from datetime import date, timedelta
from pathlib import Path

ORDERS = 6_400
FIRST_DAY, LAST_DAY = date(2025, 1, 1), date(2026, 9, 30)
HEADER = [
    "order_id",
    "order_date",
    "region",
    "city",
    "sales_rep",
    "category",
    "product",
    "channel",
    "units",
    "unit_price",
    "discount",
    "amount",
    "currency",
]

# region: weight, its cities, its sales people
REGIONS = {
    "DACH": (29, ["München", "Berlin", "Zürich", "Wien", "Köln", "Graz"], ["Jürgen Weiß", "Anna Vogel", "Lea Brügger"]),
    "France": (
        22,
        ["Paris", "Lyon", "Grenoble", "Besançon", "Nîmes"],
        ["Zoé Lefèvre", "François Moreau", "Inès Dubois"],
    ),
    "Nordics": (19, ["Stockholm", "Göteborg", "Oslo", "Tromsø", "København"], ["Åsa Lindqvist", "Bjørn Hansen"]),
    "Benelux": (13, ["Amsterdam", "Utrecht", "Antwerpen", "Liège"], ["Daan de Vries", "Noor Janssens"]),
    "Iberia": (10, ["Madrid", "A Coruña", "Málaga", "Lisboa", "Évora"], ["Íñigo Núñez", "Beatriz Conceição"]),
    "Poland & Baltics": (7, ["Kraków", "Gdańsk", "Łódź", "Rīga", "Vilnius"], ["Łukasz Wójcik", "Žaneta Kalniņa"]),
}

# category: its products with list price in euros and how often they sell
CATALOGUE = {
    "Tents": [("Fjell 2 tent", 389.00, 5), ("Fjell 4 tent", 569.00, 3), ("Trekking tarp", 119.00, 4)],
    "Sleeping": [("Down bag -10", 329.00, 5), ("Summer quilt", 149.00, 5), ("Insulated mat", 99.50, 8)],
    "Backpacks": [("Ridge 38 pack", 159.00, 7), ("Ridge 65 pack", 229.00, 5), ("Day pack 18", 69.00, 10)],
    "Cooking": [("Gas stove", 54.90, 9), ("Titanium pot 900", 48.50, 7), ("Café press mug", 24.90, 11)],
    "Clothing": [("Storm shell", 279.00, 6), ("Merino base layer", 84.90, 12), ("Fleece hoody", 109.00, 9)],
    "Footwear": [("Alpine boot", 249.00, 7), ("Trail runner", 139.00, 10)],
}
CHANNELS = {"Online": 46, "Retail": 33, "Wholesale": 21}
#: How sales swell and ebb over the year, January first.
SEASON = [0.70, 0.72, 0.86, 1.02, 1.22, 1.34, 1.28, 1.12, 0.98, 0.86, 0.98, 1.22]


def main(folder: Path) -> None:
    rng = random.Random(20260930)  # the same numbers each time
    rows = [order(rng) for _ in range(ORDERS)]
    rows.sort(key=lambda row: row["day"])
    lines = [dirtied(rng, row, 100_000 + 3 * number) for number, row in enumerate(rows)]
    for _ in range(64):  # an export that was run twice over the same page
        at = rng.randrange(len(lines))
        lines.insert(at + rng.randrange(1, 4), list(lines[at]))
    with (folder / "sales.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(HEADER)
        writer.writerows(lines)
    print(f"{folder / 'sales.csv'}: {len(lines):,} rows")


def order(rng: random.Random) -> dict:
    day = a_day(rng)
    region = rng.choices(list(REGIONS), [weight for weight, _, _ in REGIONS.values()])[0]
    _, cities, people = REGIONS[region]
    category, product, price = rng.choices(*products(region, day))[0]
    channel = rng.choices(list(CHANNELS), list(CHANNELS.values()))[0]
    units = rng.randint(6, 48) if channel == "Wholesale" else rng.choice([1, 1, 1, 1, 2, 2, 3, 4])
    discount = rng.choice([0.10, 0.15, 0.20]) if channel == "Wholesale" else rng.choice([0, 0, 0, 0, 0.05, 0.10])
    if rng.random() < 0.017:  # a return: one or a few pieces come back
        units = -rng.choice([1, 1, 1, 2])
    if day.year == 2026:
        price = round(price * 1.04, 2)  # the new price list
    return {
        "day": day,
        "region": region,
        "city": rng.choice(cities),
        "rep": rng.choice(people),
        "category": category,
        "product": product,
        "channel": channel,
        "units": units,
        "price": price,
        "discount": discount,
        "amount": round(units * price * (1 - discount), 2),
    }


def a_day(rng: random.Random) -> date:
    while True:
        day = FIRST_DAY + timedelta(days=rng.randrange((LAST_DAY - FIRST_DAY).days + 1))
        growth = 1.12 if day.year == 2026 else 1.0
        if rng.random() * max(SEASON) * 1.12 < SEASON[day.month - 1] * growth:
            return day


def products(region: str, day: date) -> tuple[list[tuple[str, str, float]], list[float]]:
    """What can be bought, and how likely each is there and then."""
    found, weights = [], []
    for category, entries in CATALOGUE.items():
        for product, price, weight in entries:
            factor = 1.0
            if category in ("Tents", "Cooking") and day.month in (5, 6, 7, 8):
                factor = 1.8
            if region == "Nordics" and category in ("Sleeping", "Clothing"):
                factor *= 1.5
            if region == "DACH" and category == "Footwear":
                factor *= 1.6
            found.append((category, product, price))
            weights.append(weight * factor)
    return found, weights


def dirtied(rng: random.Random, row: dict, order_id: int) -> list[str]:  # noqa: C901  # one line per kind of dirt
    """The row as the export wrote it: mostly clean, now and then not."""

    def now_and_then(share: float) -> bool:
        return rng.random() < share

    day = row["day"].strftime("%d.%m.%Y") if now_and_then(0.13) else row["day"].isoformat()
    region, city, rep, product = row["region"], row["city"], row["rep"], row["product"]
    if now_and_then(0.05):
        region = rng.choice([region.upper(), region.lower(), f" {region}", f"{region}  "])
    if now_and_then(0.012):
        region = ""
    if now_and_then(0.02):
        city = f"{city} "
    if now_and_then(0.015):
        rep = ""
    if now_and_then(0.02):
        product = product.replace(" ", "  ", 1)
    units = "" if now_and_then(0.006) else str(row["units"])
    discount = f"{row['discount']:.2f}"
    if now_and_then(0.04):
        discount = f"{round(100 * row['discount'])}%"
    elif row["discount"] == 0 and now_and_then(0.25):
        discount = ""
    amount = f"{row['amount']:.2f}"
    if now_and_then(0.06):
        amount = f"{row['amount']:,.2f}"
    elif now_and_then(0.03):
        amount = f"€{row['amount']:,.2f}" if row["amount"] > 0 else f"-€{-row['amount']:,.2f}"
    elif units and now_and_then(0.009):
        amount = ""
    currency = "" if now_and_then(0.01) else "EUR"
    price = f"{row['price']:.2f}"
    return [
        f"SO-{order_id}",
        day,
        region,
        city,
        rep,
        row["category"],
        product,
        row["channel"],
        units,
        price,
        discount,
        amount,
        currency,
    ]


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
