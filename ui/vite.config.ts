import { svelte } from '@sveltejs/vite-plugin-svelte';
import { defineConfig } from 'vitest/config';

export default defineConfig(({ mode }) => ({
  plugins: [svelte()],
  // `npm run dev` without the desktop app shows the mock daemon.
  define: { __MOCK_ALLOWED__: JSON.stringify(mode !== 'production') },
  // Vitest would otherwise take Svelte's server build.
  resolve: mode === 'test' ? { conditions: ['browser'] } : {},
  // The state icons are the tray's, outside this folder.
  server: { port: 5173, strictPort: true, fs: { allow: ['..'] } },
  build: { target: 'safari16', outDir: 'dist', emptyOutDir: true, sourcemap: false },
  test: { environment: 'jsdom', globals: true, setupFiles: ['tests/setup.ts'], include: ['tests/**/*.test.ts'], testTimeout: 20_000 },
}));
