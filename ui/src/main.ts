import { mount } from 'svelte';

import App from './App.svelte';
import Question from './Question.svelte';
import './app.css';
import type { Backend } from './lib/backend/backend';

declare const __MOCK_ALLOWED__: boolean;

async function chooseBackend(): Promise<Backend> {
  if (__MOCK_ALLOWED__ && !('__TAURI_INTERNALS__' in window)) {
    const { mockFromAddress } = await import('./lib/backend/mock');
    return mockFromAddress(new URLSearchParams(location.search));
  }
  return (await import('./lib/backend/tauri')).tauriBackend;
}

const backend = await chooseBackend();
const shell = await backend.shell();
const target = document.getElementById('app');
if (target) mount(shell.asks ? Question : App, { target, props: { backend, shell } });
