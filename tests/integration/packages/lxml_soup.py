import pandas as pd
from bs4 import BeautifulSoup
from io import StringIO
from lxml import etree, html

root = etree.Element("catalog")
for name, price in (("Lamp", "19.5"), ("Стол", "240")):
    item = etree.SubElement(root, "item", price=price)
    item.text = name
etree.ElementTree(root).write("catalog.xml", pretty_print=True, xml_declaration=True, encoding="UTF-8")
print(etree.parse("catalog.xml").xpath("//item[@price > 100]/text()"))
page = "<html><body><h1>Title</h1><table><tr><th>a</th><th>b</th></tr><tr><td>1</td><td>2</td></tr></table><a href='/x'>x</a></body></html>"
for parser in ("lxml", "html.parser"):
    soup = BeautifulSoup(page, parser)
    print(soup.h1.text, soup.select_one("a")["href"], len(soup.find_all("td")))
print(html.fromstring(page).xpath("//a/@href"))
print(pd.read_html(StringIO(page))[0].to_dict("records"))
pd.read_csv("sales.csv").head(3).to_xml("sales.xml", index=False)
print(len(pd.read_xml("sales.xml")))
