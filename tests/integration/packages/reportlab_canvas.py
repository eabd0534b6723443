from reportlab.graphics import renderPDF
from reportlab.graphics.barcode import code128
from reportlab.graphics.charts.barcharts import VerticalBarChart
from reportlab.graphics.shapes import Drawing
from reportlab.lib import colors
from reportlab.lib.pagesizes import A4
from reportlab.lib.units import cm
from reportlab.pdfgen import canvas

c = canvas.Canvas("invoice.pdf", pagesize=A4)
width, height = A4
c.setTitle("Invoice 42")
c.setFont("Helvetica-Bold", 18)
c.drawString(2 * cm, height - 3 * cm, "Invoice 42")
c.setFont("Times-Roman", 11)
c.drawRightString(width - 2 * cm, height - 3 * cm, "Total: € 1,200")
c.setFillColor(colors.HexColor("#336699"))
c.rect(2 * cm, 20 * cm, 5 * cm, 2 * cm, fill=1)
c.line(2 * cm, 19 * cm, 19 * cm, 19 * cm)
drawing = Drawing(400, 200)
chart = VerticalBarChart()
chart.data = [(13, 5, 20, 22)]
chart.width, chart.height = 300, 120
drawing.add(chart)
renderPDF.draw(drawing, c, 2 * cm, 10 * cm)
code128.Code128("ABC-1234").drawOn(c, 2 * cm, 5 * cm)
c.showPage()
c.drawString(2 * cm, 20 * cm, "Second page")
c.save()
print("saved")
