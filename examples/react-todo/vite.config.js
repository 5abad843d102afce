// For `vite dev`. Vite 7 loses the package's worker when it bundles the package, so it is left as it is. What the package itself
// imports must then be named: React is CommonJS, which a browser cannot import unbundled. Vite 8 needs neither line.
export default { optimizeDeps: { exclude: ['piecewise'], include: ['react'] } };
