from pypdf import PdfReader, PdfWriter
from reportlab.pdfgen import canvas

for name in ("a", "b"):
    c = canvas.Canvas(f"{name}.pdf")
    c.drawString(100, 700, f"This is {name}")
    c.save()
writer = PdfWriter()
for name in ("a", "b"):
    writer.append(f"{name}.pdf")
writer.pages[0].rotate(90)
writer.add_metadata({"/Title": "Merged"})
with open("merged.pdf", "wb") as f:
    writer.write(f)
reader = PdfReader("merged.pdf")
print(len(reader.pages), [page.extract_text().strip() for page in reader.pages], reader.metadata.title)
locked = PdfWriter(clone_from="merged.pdf")
locked.encrypt("secret", algorithm="RC4-128")
locked.write("locked.pdf")
reader = PdfReader("locked.pdf")
print(reader.is_encrypted, bool(reader.decrypt("secret")), len(reader.pages))
