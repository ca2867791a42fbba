#!/bin/sh
# Renders the SVG sources. Run it after changing one (Debian: librsvg2-bin imagemagick); the PNGs are committed, so a build needs nothing.
set -eu
cd "$(dirname "$0")"
for svg in tray/*.svg; do
    for size in 16 22 24 32 48; do
        rsvg-convert --width "$size" --height "$size" --output "${svg%.svg}-$size.png" "$svg"
    done
done
for size in 16 24 32 48 64 128 256 512; do
    rsvg-convert --width "$size" --height "$size" --output "overside-$size.png" overside.svg
done
# Windows builds the first of these into the program.
convert overside-32.png overside-128.png overside.ico
