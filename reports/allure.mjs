// node allure.mjs CONFIG RESULTS
//
// Makes the report, as `allure generate` does, and judges its quality gate, as
// `allure quality-gate` does: no program of Allure does both with results that exist.

import { AllureReport, readConfig } from "@allurereport/core";

process.on("uncaughtException", (error) => {
  console.error(String(error));
  process.exit(1);
});

const [config, results] = process.argv.slice(2);
const report = new AllureReport(await readConfig(process.cwd(), config));
await report.start();
await report.readDirectory(results);
const tests = await report.store.allTestResults({ includeRetries: false });
const gate = await report.validate({ trs: tests });
report.realtimeDispatcher.sendQualityGateResults(gate.results);
await report.done();
