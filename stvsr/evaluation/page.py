"""The report's page: HTML and CSS with places for what a run gave; nothing is loaded from afar."""

from string import Template

PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>$title</title>
<style>
:root {
  --paper: #ffffff; --ink: #1c2024; --soft: #5c6670; --rule: #d9dee3; --band: #f5f7f9;
  --blue: #0b62c4; --brown: #8a6d1d; --orange: #b4470f; --up: #14703a; --down: #b3261e;
  --warning: #fff4d6;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #15181b; --ink: #e6e9ec; --soft: #9aa5b0; --rule: #333a41; --band: #1d2226;
    --blue: #6cb2ff; --brown: #d8b75a; --orange: #ff9a62; --up: #6fd694; --down: #ff8a80;
    --warning: #3d3213;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 2.5rem 1.25rem 4rem; max-width: 62rem;
  background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif;
}
h1 { margin: 0 0 .5rem; font-size: 1.9rem; line-height: 1.2; }
h2 { margin: 3rem 0 .75rem; font-size: 1.25rem; }
h3 { margin: 0 0 .15rem; font-size: 1rem; }
p { margin: 0 0 .75rem; max-width: 46rem; }
.lead { font-size: 1.1rem; }
.note { margin-top: .75rem; }
.note, section.clip p, figcaption, dt { color: var(--soft); font-size: .875rem; }
.warning { padding: .75rem 1rem; border-radius: 6px; background: var(--warning); }
.scroll { overflow-x: auto; }
table { width: 100%; border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .7rem; text-align: right; white-space: nowrap; }
thead th { color: var(--soft); font-weight: 500; font-size: .875rem; }
thead .left { text-align: left; }
thead tr:first-child th { padding-bottom: 0; color: var(--ink); font-weight: 600; }
thead tr:first-child th[colspan] { text-align: center; }
tbody { border-top: 1px solid var(--rule); }
tbody:last-of-type { border-bottom: 1px solid var(--rule); }
tbody th { text-align: left; font-weight: 400; }
tbody th[rowspan] { vertical-align: top; font-weight: 600; }
small { display: block; color: var(--soft); font-size: .8rem; font-weight: 400; }
tr.all td, tr.all th:not([rowspan]) { background: var(--band); }
td.up { color: var(--up); font-weight: 600; }
td.down { color: var(--down); font-weight: 600; }
section.clip { margin: 0 0 2rem; }
.heads, .strip { display: grid; grid-template-columns: 6.5rem 1fr; align-items: center; }
.heads div { display: grid; grid-template-columns: repeat(4, 1fr); text-align: center; }
.heads span, .strip span { font-size: .875rem; }
.strip { margin-top: .35rem; }
.strip img { display: block; width: 100%; image-rendering: pixelated; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(22rem, 1fr)); gap: 2rem; }
figure { margin: 0; min-width: 0; }
figcaption { margin-top: .4rem; }
svg { display: block; width: 100%; height: auto; overflow: visible; }
svg text { fill: var(--soft); font-size: 13px; }
svg .axis { fill: var(--ink); }
svg .grid { stroke: var(--rule); }
svg .stroke { stroke: var(--soft); }
svg polyline { fill: none; stroke-width: 2; stroke-linejoin: round; }
svg g line { stroke-width: 3; }
.curve polyline, .curve line { stroke: var(--curve); }
.curve circle { fill: var(--curve); }
.network, .input { --curve: var(--blue); }
.interpolated { --curve: var(--orange); }
.trilinear { --curve: var(--brown); stroke-dasharray: 5 4; }
.quiet { --curve: var(--soft); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .35rem 1.5rem; margin: 0; }
dd { margin: 0; overflow-wrap: anywhere; }
code { font-size: .85em; }
@media (max-width: 40rem) {
  .heads, .strip { grid-template-columns: 1fr; }
  .heads > span { display: none; }
  .charts { grid-template-columns: 1fr; }
  dl { grid-template-columns: 1fr; gap: 0; } dd { margin-bottom: .6rem; }
}
@media print { section.clip, figure, tbody { break-inside: avoid; } }
</style>
</head>
<body>
<h1>$heading</h1>
<p class="lead">$summary</p>
$warnings
<h2>Scores</h2>
<div class="scroll"><table>
<thead>
<tr><th></th><th></th><th colspan="2">Network</th><th colspan="2">Trilinear</th>
<th colspan="2">Gain</th></tr>
<tr><th></th><th class="left">frames</th><th>PSNR-Y</th><th>SSIM-Y</th>
<th>PSNR-Y</th><th>SSIM-Y</th><th>dB</th><th>SSIM-Y</th></tr>
</thead>
$table
</table></div>
<p class="note">Input frames: 1, 3, 5, 7, whose low resolution the network gets. Interpolated
frames: 2, 4, 6, which it makes up. Output is clamped and rounded to 8 bit, scored on Y, no border
cropped; means over a clip's frames, then over clips. Trilinear: bicubic in space, linear in
time.</p>
<h2>What it looks like</h2>
<p class="note">Each strip shows the part of the clip with the most moving detail, chosen from the
truth alone. At an interpolated frame the input is the mean of the two low-resolution frames
around it.</p>
$strips
<h2>Curves</h2>
<div class="charts">
$charts
</div>
<h2>Facts</h2>
<dl>$facts</dl>
</body>
</html>
""")
