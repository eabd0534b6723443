from PIL import Image, ImageDraw, ImageFilter, ImageFont, ImageOps

image = Image.new("RGB", (320, 200), "white")
draw = ImageDraw.Draw(image)
draw.ellipse((20, 20, 120, 120), fill="orange", outline="black")
draw.text((140, 60), "Hello", fill="black", font=ImageFont.truetype("arial.ttf", 28))
draw.text((140, 110), "default", fill="gray", font=ImageFont.load_default())
draw.text((140, 140), "DejaVu", fill="blue", font=ImageFont.truetype("DejaVuSans-Bold.ttf", 20))
image.save("drawing.png")
image.filter(ImageFilter.GaussianBlur(3)).save("blurred.jpg", quality=85)
image.resize((160, 100), Image.LANCZOS).save("small.webp")
ImageOps.grayscale(image).save("gray.bmp")
frames = [image.rotate(angle) for angle in (0, 90, 180)]
frames[0].save("turning.gif", save_all=True, append_images=frames[1:], duration=100, loop=0)
image.save("page.tiff")
print(Image.open("blurred.jpg").size, Image.open("turning.gif").n_frames)
