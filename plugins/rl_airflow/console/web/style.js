/** The style sheet. Colours come from Airflow's theme; those of curves are Okabe and Ito's. */

export const COLOURS = [1, 2, 3, 4, 5, 6].map((k) => `var(--ns-${k})`);
export const DASHES = ["", "7 3", "2 3", "9 3 2 3", "1 4", "12 4"];

export const CSS = `
.ns{--ns-1:#0072b2;--ns-2:#b85000;--ns-3:#00785a;--ns-4:#a84f86;--ns-5:#6b5b00;--ns-6:#3b3b98;
  --ns-bad:#b3261e;--ns-good:#00694f;--ns-grid:#0000001f;
  --ns-ink:var(--chakra-colors-fg,#111);--ns-soft:var(--chakra-colors-fg-muted,#4a5568);
  --ns-panel:var(--chakra-colors-bg-panel,#fff);--ns-line:var(--chakra-colors-border,#d5dbe3);
  --ns-link:var(--chakra-colors-fg-info,#1a4fc4);--ns-hover:#0072b214;
  container-type:inline-size;height:100%;overflow-y:auto;padding:16px;color:var(--ns-ink);
  font-size:14px;line-height:1.45}
.dark .ns{--ns-1:#56b4e9;--ns-2:#e69f00;--ns-3:#2ecc9b;--ns-4:#e58fc3;--ns-5:#f0e442;--ns-6:#b3b3ff;
  --ns-bad:#ff8a80;--ns-good:#4fd8b0;--ns-grid:#ffffff2e;--ns-hover:#56b4e91f}
.ns *{box-sizing:border-box;min-width:0}
.ns h1{font-size:22px;font-weight:600;overflow-wrap:anywhere}
.ns h2{font-size:15px;font-weight:600;margin:0 0 8px}
.ns h3{font-size:14px;font-weight:600;margin:0}
.ns p{margin:0 0 6px;overflow-wrap:anywhere}
.ns a.ns-button{text-decoration:none;color:var(--ns-ink)}
.ns a{color:var(--ns-link);text-decoration:underline;text-underline-offset:2px}
.ns :is(a,button,input,select,textarea,summary,[tabindex]):focus-visible{outline:2px solid var(--ns-1);outline-offset:2px}
.ns-head{display:flex;flex-wrap:wrap;gap:4px 16px;align-items:baseline;justify-content:space-between;margin-bottom:12px}
.ns-soft{color:var(--ns-soft);font-size:13px}
.ns-bad{color:var(--ns-bad)}
.ns-grid{display:grid;gap:16px;grid-template-columns:repeat(2,minmax(0,1fr))}
.ns-wide{grid-column:1/-1}
.ns-facts{display:grid;gap:12px;grid-template-columns:repeat(auto-fit,minmax(130px,1fr));margin:0}
.ns-card{border:1px solid var(--ns-line);border-radius:8px;background:var(--ns-panel);padding:14px}
.ns-facts dt{font-size:12px;color:var(--ns-soft)}
.ns-facts dd{margin:0;font-size:17px;font-weight:600;overflow-wrap:anywhere}
.ns-facts dd small{display:block;font-size:12px;font-weight:400;color:var(--ns-soft)}
.ns-problem{border:1px solid var(--ns-bad);border-left-width:4px;border-radius:6px;padding:8px 12px;margin-bottom:12px;overflow-wrap:anywhere}
.ns-badge{display:inline-block;border:1px solid currentColor;border-radius:10px;padding:0 8px;font-size:12px;font-weight:600;white-space:nowrap}
.ns-row{display:flex;flex-wrap:wrap;gap:8px 12px;align-items:center}
.ns-card>.ns-row{margin:0 0 8px}
.ns-card>.ns-scroll+.ns-row{margin:10px 0 0}
.ns-button,.ns input,.ns textarea{border:1px solid var(--ns-soft);border-radius:6px;padding:4px 10px;background:var(--ns-panel);color:var(--ns-ink);font:inherit}
.ns-button{cursor:pointer;font-weight:500}
.ns-button:hover:not(:disabled){background:var(--ns-hover)}
.ns-button[aria-pressed=true]{border-color:var(--ns-1);box-shadow:inset 0 0 0 1px var(--ns-1)}
.ns-button:disabled{opacity:.55;cursor:not-allowed}
.ns-main{background:var(--ns-1);border-color:var(--ns-1);color:#fff}
.dark .ns-main{color:#000}
.ns-main:hover:not(:disabled){background:var(--ns-1);filter:brightness(1.12)}
.ns-turn{text-decoration:underline;font-size:12px;color:var(--ns-soft)!important}
.ns-plain{border:0;background:none;padding:0;color:inherit;font:inherit;cursor:pointer;text-align:inherit}
.ns-scroll{overflow-x:auto}
.ns-table{border-collapse:collapse;width:100%}
.ns-table th{font-size:12px;font-weight:600;color:var(--ns-soft);text-align:left;white-space:nowrap}
.ns-table th,.ns-table td{padding:6px 16px 6px 0;border-bottom:1px solid var(--ns-line);vertical-align:top;overflow-wrap:anywhere}
.ns-table tbody tr:hover{background:var(--ns-hover)}
.ns-table .ns-n{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}
.ns-table progress{width:90px;height:10px;appearance:none;border:1px solid var(--ns-soft);border-radius:5px;background:none;overflow:hidden}
.ns progress::-webkit-progress-bar{background:none}
.ns progress::-webkit-progress-value{background:var(--ns-1)}
.ns progress::-moz-progress-bar{background:var(--ns-1)}
.ns-keep{white-space:nowrap}
.ns-spark{display:flex;gap:8px;align-items:center}
.ns figure{margin:0}
.ns-svg{display:block;margin:0 auto;overflow:visible;touch-action:pan-y}
.ns-svg text{fill:var(--ns-soft);font-size:12px;font-family:inherit}
.ns-svg .ns-over{paint-order:stroke;stroke:var(--ns-panel);stroke-width:4px}
.ns-svg .ns-axis{stroke:var(--ns-grid)}
.ns-reading{display:block;min-height:20px;font-size:12px;color:var(--ns-soft)}
.ns-legend{display:flex;flex-wrap:wrap;gap:2px 14px;font-size:12px;list-style:none;margin:0;padding:0}
.ns-legend button{display:inline-flex;align-items:center;gap:6px;padding:3px 0;font-size:12px;overflow-wrap:anywhere}
.ns-legend button[aria-pressed=false]{text-decoration:line-through;color:var(--ns-soft)}
.ns-data{max-height:260px;overflow:auto}
.ns-data th,.ns-data td{text-align:right;padding:2px 10px;font-size:12px}
.ns dialog{border:1px solid var(--ns-line);border-radius:10px;background:var(--ns-panel);color:var(--ns-ink);padding:20px;width:min(480px,calc(100vw - 32px));margin:auto}
.ns dialog::backdrop{background:#0008}
.ns label{display:block;margin:10px 0 4px;font-weight:500}
.ns :is(dialog) :is(input,textarea){width:100%}
.ns-log{margin:0;max-height:calc(100vh - 230px);min-height:200px;overflow:auto;font:12px/1.5 ui-monospace,monospace;white-space:pre-wrap;overflow-wrap:anywhere}
.ns-frame{width:100%;height:calc(100vh - 170px);min-height:400px;border:1px solid var(--ns-line);border-radius:8px;background:#fff}
.ns-question{border-left:4px solid var(--ns-2)}
.ns-quote{white-space:pre-wrap;overflow-wrap:anywhere;margin-bottom:10px}
.ns-hidden{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}
@container (max-width:760px){
  .ns-grid{grid-template-columns:minmax(0,1fr)}
  .ns-stack thead{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}
  .ns-stack,.ns-stack tbody,.ns-stack tr,.ns-stack td{display:block}
  .ns-stack tr{border-bottom:1px solid var(--ns-line);padding:8px 0}
  .ns-stack td{border:0;padding:2px 0;display:grid;grid-template-columns:110px minmax(0,1fr);gap:8px}
  .ns-stack td.ns-n{text-align:left;white-space:normal}
  .ns-stack td::before{content:attr(data-label);font-size:12px;color:var(--ns-soft)}
  .ns-stack td:has(>div:empty){display:none}
}
@media (max-width:480px){.ns{padding:10px}.ns-card{padding:10px}}
@media (prefers-reduced-motion:reduce){.ns *{transition:none!important;scroll-behavior:auto!important}}
`;
