// While the page is written, Vite must leave the package's worker where it is.
export default { optimizeDeps: { exclude: ['piecewise'] } };
