// node allure.mjs CONFIG RESULTS
//
// Makes the report, as `allure generate` does, and judges its quality gate, as
// `allure quality-gate` does: neither program of Allure does both.

import { AllureReport, readConfig } from "@allurereport/core";

const [config, results] = process.argv.slice(2);
const report = new AllureReport(await readConfig(process.cwd(), config));
await report.start();
await report.readDirectory(results);
const tests = await report.store.allTestResults({ includeRetries: false });
const gate = await report.validate({ trs: tests, knownIssues: await report.store.allKnownIssues() });
report.realtimeDispatcher.sendQualityGateResults(gate.results);
await report.done();
