BEGIN TRANSACTION;
CREATE TABLE _sqlx_migrations (
    version BIGINT PRIMARY KEY,
    description TEXT NOT NULL,
    installed_on TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
    success BOOLEAN NOT NULL,
    checksum BLOB NOT NULL,
    execution_time BIGINT NOT NULL
);
INSERT INTO "_sqlx_migrations" VALUES(1,'first light','2026-11-24 16:04:46',1,X'AE8A9C5EBBA03962313C814B3E26CEC780D389E5BDBA10F1153829DA67E9ACB3412592E010E8F22D8373D9C765FCE63E',2076081);
INSERT INTO "_sqlx_migrations" VALUES(2,'embedded bus','2026-11-24 16:04:46',1,X'254A0E49BA9BD1890EFF7F49B8E5193812B9C598C40D4C747051049914E950E9CDF8BC744020A1FE5EE0DE4F1B15E51A',991136);
CREATE TABLE agent_specs (
    digest     TEXT    PRIMARY KEY NOT NULL,
    agent_id   TEXT    NOT NULL,
    body       TEXT    NOT NULL,
    first_seen INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO "agent_specs" VALUES('2a8388215074bb7999cbc8f05860fb40e4512dfc00bf2a86f5e6e13d1fd67d54','asker','{"name":"asker","type":"assistant","execution_mode":"autonomous","runs_as":"autonomous","models":[{"provider":"scripted","model":"rules","timeout":{"secs":60,"nanos":0},"max_output_tokens":1024,"script":[{"when":"go","then":{"tool":{"name":"clock","arguments":{}}},"delay":{"secs":0,"nanos":0},"times":1},{"then":{"reply":"done"},"delay":{"secs":0,"nanos":0}}]}],"instructions":"You ask.","subscriptions":[],"instances":1,"tools":[{"builtin":{"name":"clock"}}],"permissions":[{"tool":"clock","rule":"ask"}],"limits":{"turns":12,"tokens":50000,"timeout":{"secs":300,"nanos":0}},"retries":2,"restart":{"max":3,"window":{"secs":60,"nanos":0}},"reply":"thread","team":[],"extra":null}',1795536286432);
INSERT INTO "agent_specs" VALUES('54453b879067ab88a2749bde1bb5595cbeb453a62403fd62f004a67f23766636','teller','{"name":"teller","type":"assistant","execution_mode":"autonomous","runs_as":"autonomous","models":[{"provider":"scripted","model":"rules","timeout":{"secs":60,"nanos":0},"max_output_tokens":1024,"script":[{"when":"(?i)^what time","then":{"tool":{"name":"clock","arguments":{"zone":"Europe/Berlin"}}},"delay":{"secs":0,"nanos":0},"times":1},{"when":"T[0-9]{2}:","then":{"tool":{"name":"wait","arguments":{"seconds":0.05}}},"delay":{"secs":0,"nanos":0},"times":1},{"then":{"reply":"It is time for \"tea\", Zoë."},"delay":{"secs":0,"nanos":0}}]}],"instructions":"You tell the time.","subscriptions":[],"instances":1,"tools":[{"builtin":{"name":"clock"}},{"builtin":{"name":"wait"}}],"permissions":[],"limits":{"turns":12,"tokens":50000,"timeout":{"secs":300,"nanos":0}},"retries":2,"restart":{"max":3,"window":{"secs":60,"nanos":0}},"reply":"thread","team":[],"extra":null}',1795536286443);
INSERT INTO "agent_specs" VALUES('ad642f81a4bae1f08a2f93c4b23c14cd1adcbea546490e395d67234c250e0da3','writer','{"name":"writer","type":"assistant","execution_mode":"autonomous","runs_as":"autonomous","models":[{"provider":"scripted","model":"rules","timeout":{"secs":60,"nanos":0},"max_output_tokens":1024,"script":[{"when":"hello","then":{"reply":"Hello to you."},"delay":{"secs":0,"nanos":0}}]}],"instructions":"You answer.","subscriptions":[],"instances":1,"tools":[],"permissions":[],"limits":{"turns":12,"tokens":50000,"timeout":{"secs":300,"nanos":0}},"retries":2,"restart":{"max":3,"window":{"secs":60,"nanos":0}},"reply":"thread","team":[],"extra":null}',1795536286444);
INSERT INTO "agent_specs" VALUES('b3265795a63dbeb12961f0690d7712aed40300db77c4425d49d54614310c3466','sleeper','{"name":"sleeper","type":"assistant","execution_mode":"autonomous","runs_as":"autonomous","models":[{"provider":"scripted","model":"rules","timeout":{"secs":60,"nanos":0},"max_output_tokens":1024,"script":[{"when":"sleep","then":{"tool":{"name":"wait","arguments":{"seconds":2}}},"delay":{"secs":0,"nanos":0}},{"then":{"reply":"Good morning."},"delay":{"secs":0,"nanos":0}}]}],"instructions":"You sleep first.","subscriptions":[],"instances":1,"tools":[{"builtin":{"name":"wait"}}],"permissions":[],"limits":{"turns":12,"tokens":50000,"timeout":{"secs":300,"nanos":0}},"retries":2,"restart":{"max":3,"window":{"secs":60,"nanos":0}},"reply":"thread","team":[],"extra":null}',1795536286442);
INSERT INTO "agent_specs" VALUES('c61303e19b90ce33fc205c3bb4c7cf4efc8dc4fcfc63246e637aeb2b0828a2c8','broken','{"name":"broken","type":"assistant","execution_mode":"autonomous","runs_as":"autonomous","models":[{"provider":"scripted","model":"rules","timeout":{"secs":60,"nanos":0},"max_output_tokens":1024,"script":[{"then":{"fail":503},"delay":{"secs":0,"nanos":0}}]}],"instructions":"You always fail.","subscriptions":[],"instances":1,"tools":[],"permissions":[],"limits":{"turns":12,"tokens":50000,"timeout":{"secs":300,"nanos":0}},"retries":1,"restart":{"max":3,"window":{"secs":60,"nanos":0}},"reply":"thread","team":[],"extra":null}',1795536286434);
INSERT INTO "agent_specs" VALUES('cc57e651b657d7ef5010d1f380125993b08239bbd1c901071a0b89300051acf3','flaky','{"name":"flaky","type":"assistant","execution_mode":"autonomous","runs_as":"autonomous","models":[{"provider":"scripted","model":"rules","timeout":{"secs":60,"nanos":0},"max_output_tokens":1024,"script":[{"when":"try","then":{"fail":503},"delay":{"secs":0,"nanos":0},"times":2},{"then":{"reply":"At last."},"delay":{"secs":0,"nanos":0}}]}],"instructions":"You fail first.","subscriptions":[],"instances":1,"tools":[],"permissions":[],"limits":{"turns":12,"tokens":50000,"timeout":{"secs":300,"nanos":0}},"retries":2,"restart":{"max":3,"window":{"secs":60,"nanos":0}},"reply":"thread","team":[],"extra":null}',1795536286439);
INSERT INTO "agent_specs" VALUES('cf8b5617507c31567db81cffbaf39e4c29a7077ef18521fbb4c586716e1bfaaf','denied','{"name":"denied","type":"assistant","execution_mode":"autonomous","runs_as":"autonomous","models":[{"provider":"scripted","model":"rules","timeout":{"secs":60,"nanos":0},"max_output_tokens":1024,"script":[{"when":"go","then":{"tool":{"name":"clock","arguments":{}}},"delay":{"secs":0,"nanos":0},"times":1},{"when":"may not call","then":{"tool":{"name":"nowhere","arguments":{"a":[1,0.1,null]}}},"delay":{"secs":0,"nanos":0},"times":1},{"then":{"reply":"I may not."},"delay":{"secs":0,"nanos":0}}]}],"instructions":"You may not.","subscriptions":[],"instances":1,"tools":[{"builtin":{"name":"clock"}}],"permissions":[{"tool":"clock","rule":"deny"}],"limits":{"turns":12,"tokens":50000,"timeout":{"secs":300,"nanos":0}},"retries":2,"restart":{"max":3,"window":{"secs":60,"nanos":0}},"reply":"thread","team":[],"extra":null}',1795536286437);
INSERT INTO "agent_specs" VALUES('d76111708e9de07185145277de34055f3f8d6f4df0c01b9253e35577447c6bc9','looper','{"name":"looper","type":"assistant","execution_mode":"autonomous","runs_as":"autonomous","models":[{"provider":"scripted","model":"rules","timeout":{"secs":60,"nanos":0},"max_output_tokens":1024,"script":[{"then":{"tool":{"name":"clock","arguments":{}}},"delay":{"secs":0,"nanos":0}}]}],"instructions":"You go on and on.","subscriptions":[],"instances":1,"tools":[{"builtin":{"name":"clock"}}],"permissions":[],"limits":{"turns":2,"tokens":50000,"timeout":{"secs":300,"nanos":0}},"retries":0,"restart":{"max":3,"window":{"secs":60,"nanos":0}},"reply":"thread","team":[],"extra":null}',1795536286440);
CREATE TABLE agent_states (
    agent_id   TEXT    NOT NULL,
    session    TEXT    NOT NULL,
    version    INTEGER NOT NULL,
    body       TEXT    NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (agent_id, session)
) STRICT, WITHOUT ROWID;
CREATE TABLE bus_bindings (
    queue   INTEGER NOT NULL,
    pattern TEXT    NOT NULL,
    PRIMARY KEY (queue, pattern)
) STRICT, WITHOUT ROWID;
INSERT INTO "bus_bindings" VALUES(1,'agent.step.asker');
INSERT INTO "bus_bindings" VALUES(1,'agent.task.asker');
INSERT INTO "bus_bindings" VALUES(1,'scheduled.tasks.asker');
INSERT INTO "bus_bindings" VALUES(2,'agent.step.broken');
INSERT INTO "bus_bindings" VALUES(2,'agent.task.broken');
INSERT INTO "bus_bindings" VALUES(2,'scheduled.tasks.broken');
INSERT INTO "bus_bindings" VALUES(3,'agent.step.denied');
INSERT INTO "bus_bindings" VALUES(3,'agent.task.denied');
INSERT INTO "bus_bindings" VALUES(3,'scheduled.tasks.denied');
INSERT INTO "bus_bindings" VALUES(4,'agent.step.flaky');
INSERT INTO "bus_bindings" VALUES(4,'agent.task.flaky');
INSERT INTO "bus_bindings" VALUES(4,'scheduled.tasks.flaky');
INSERT INTO "bus_bindings" VALUES(5,'agent.step.looper');
INSERT INTO "bus_bindings" VALUES(5,'agent.task.looper');
INSERT INTO "bus_bindings" VALUES(5,'scheduled.tasks.looper');
INSERT INTO "bus_bindings" VALUES(6,'agent.step.sleeper');
INSERT INTO "bus_bindings" VALUES(6,'agent.task.sleeper');
INSERT INTO "bus_bindings" VALUES(6,'scheduled.tasks.sleeper');
INSERT INTO "bus_bindings" VALUES(7,'agent.step.teller');
INSERT INTO "bus_bindings" VALUES(7,'agent.task.teller');
INSERT INTO "bus_bindings" VALUES(7,'scheduled.tasks.teller');
INSERT INTO "bus_bindings" VALUES(8,'agent.step.writer');
INSERT INTO "bus_bindings" VALUES(8,'agent.task.writer');
INSERT INTO "bus_bindings" VALUES(8,'scheduled.tasks.writer');
INSERT INTO "bus_bindings" VALUES(9,'agent.failed.*');
INSERT INTO "bus_bindings" VALUES(9,'agent.output.*');
CREATE TABLE bus_dead_letters (
    no          INTEGER PRIMARY KEY,
    id          TEXT    NOT NULL UNIQUE,
    queue       TEXT    NOT NULL,
    cause       TEXT    NOT NULL,
    attempts    INTEGER NOT NULL,
    first_error TEXT    NOT NULL,
    last_error  TEXT    NOT NULL,
    at          INTEGER NOT NULL,
    event       TEXT    NOT NULL
) STRICT;
INSERT INTO "bus_dead_letters" VALUES(1,'20d22b4b-a005-80a1-802b-48b747567880','agent.input.broken','model',2,'scripted/rules answered 503: rule 0 of the script says so','scripted/rules answered 503: rule 0 of the script says so',1795536288520,'{"specversion":"1.0","id":"398fd79c-67db-8a01-85e7-bf892a30c23e","type":"agent.task.broken","source":"/api","time":"2026-11-24T16:04:48.512774590Z","traceparent":"00-6977c64589c9bd2605973f1251133f15-7525e5857d146647-01","priority":5,"retrycount":0,"data":{"input":"try","session":null}}');
INSERT INTO "bus_dead_letters" VALUES(2,'d3341b83-59d6-8445-be71-bb9e8563337c','agent.input.looper','turns',1,'stopped at limits.turns = 2: the model still wanted tools','stopped at limits.turns = 2: the model still wanted tools',1795536288629,'{"specversion":"1.0","id":"d86d9968-48e8-8c2f-865d-75f41fdabe99","type":"agent.task.looper","source":"/api","time":"2026-11-24T16:04:48.622537876Z","traceparent":"00-876969ef608e3f9950584a65cf383e71-42329e3fa9653137-01","priority":5,"retrycount":0,"data":{"input":"go","session":null}}');
CREATE TABLE bus_messages (
    seq   INTEGER PRIMARY KEY,
    queue INTEGER NOT NULL,
    rank  INTEGER NOT NULL,
    body  TEXT    NOT NULL
) STRICT;
CREATE TABLE bus_queues (
    id            INTEGER PRIMARY KEY,
    name          TEXT    NOT NULL UNIQUE,
    single_active INTEGER NOT NULL
) STRICT;
INSERT INTO "bus_queues" VALUES(1,'agent.input.asker',0);
INSERT INTO "bus_queues" VALUES(2,'agent.input.broken',0);
INSERT INTO "bus_queues" VALUES(3,'agent.input.denied',0);
INSERT INTO "bus_queues" VALUES(4,'agent.input.flaky',0);
INSERT INTO "bus_queues" VALUES(5,'agent.input.looper',0);
INSERT INTO "bus_queues" VALUES(6,'agent.input.sleeper',0);
INSERT INTO "bus_queues" VALUES(7,'agent.input.teller',0);
INSERT INTO "bus_queues" VALUES(8,'agent.input.writer',0);
INSERT INTO "bus_queues" VALUES(9,'troupe.replies',0);
CREATE TABLE bus_retries (
    seq         INTEGER PRIMARY KEY,
    queue       INTEGER NOT NULL,
    rank        INTEGER NOT NULL,
    retrycount  INTEGER NOT NULL,
    due_at      INTEGER NOT NULL,
    first_error TEXT    NOT NULL,
    last_error  TEXT    NOT NULL
) STRICT;
CREATE TABLE execution_results (
    id                  INTEGER PRIMARY KEY,
    step_id             BLOB    NOT NULL UNIQUE,
    task_id             BLOB    NOT NULL,
    agent_id            TEXT    NOT NULL,
    execution_timestamp INTEGER NOT NULL,
    status              TEXT    NOT NULL,
    input_tokens        INTEGER NOT NULL,
    output_tokens       INTEGER NOT NULL,
    cost_microusd       INTEGER NOT NULL,
    outcome             TEXT,
    seq                 INTEGER NOT NULL,
    version             INTEGER NOT NULL,
    kind                TEXT    NOT NULL,
    body                TEXT    NOT NULL
) STRICT;
INSERT INTO "execution_results" VALUES(1,X'3BB3F0210C8F8512889E13B1C3245990',X'3BB3F0210C8F8EFCA6C0125E3CAD557D','writer',1795536288348,'succeeded',5,4,0,NULL,0,1,'model_result','{"seq":0,"attempt":1,"at":"2026-11-24T16:04:48.348745572Z","kind":"model_result","completion":{"text":"Hello to you.","finish":"stop","usage":{"input_tokens":5,"output_tokens":4,"cost_microusd":0},"provider":"scripted","model":"rules"}}');
INSERT INTO "execution_results" VALUES(2,X'269016EEE9E88582A5CA79FA972CA24A',X'269016EEE9E88032BC23DC57652F0FD6','teller',1795536288440,'succeeded',394,20,0,NULL,4,1,'model_result','{"seq":4,"attempt":1,"at":"2026-11-24T16:04:48.440489705Z","kind":"model_result","completion":{"text":"It is time for \"tea\", Zoë.","finish":"stop","usage":{"input_tokens":140,"output_tokens":8,"cost_microusd":0},"provider":"scripted","model":"rules"}}');
INSERT INTO "execution_results" VALUES(3,X'3FBC120F56758063AFD22B579C39B147',X'3FBC120F567581B4A5825F453BCD317E','flaky',1795536288483,'succeeded',6,3,0,NULL,2,1,'model_result','{"seq":2,"attempt":3,"at":"2026-11-24T16:04:48.483346667Z","kind":"model_result","completion":{"text":"At last.","finish":"stop","usage":{"input_tokens":6,"output_tokens":3,"cost_microusd":0},"provider":"scripted","model":"rules"}}');
INSERT INTO "execution_results" VALUES(4,X'FEEA4544907380429D1B11550D7DF8E6',X'FEEA4544907382E19B2E4CBCE293C95C','broken',1795536288520,'failed',0,0,0,'{"status":"failed","failure":{"reason":"model","message":"scripted/rules answered 503: rule 0 of the script says so","retryable":true}}',1,1,'attempt_failed','{"seq":1,"attempt":2,"at":"2026-11-24T16:04:48.520720553Z","kind":"attempt_failed","failure":{"reason":"model","message":"scripted/rules answered 503: rule 0 of the script says so","retryable":true}}');
INSERT INTO "execution_results" VALUES(5,X'596F1E26BBFA801F9B2084C511D25CAA',X'596F1E26BBFA8AD3A8A011EAFCD074E2','denied',1795536288557,'succeeded',242,12,0,NULL,4,1,'model_result','{"seq":4,"attempt":1,"at":"2026-11-24T16:04:48.557270452Z","kind":"model_result","completion":{"text":"I may not.","finish":"stop","usage":{"input_tokens":96,"output_tokens":4,"cost_microusd":0},"provider":"scripted","model":"rules"}}');
INSERT INTO "execution_results" VALUES(6,X'D452B019D2728708B622F71115E9E459',X'D452B019D2728AA2A622097A9FA1FAB3','looper',1795536288629,'failed',145,4,0,'{"status":"failed","failure":{"reason":"turns","message":"stopped at limits.turns = 2: the model still wanted tools","retryable":false}}',3,1,'attempt_failed','{"seq":3,"attempt":1,"at":"2026-11-24T16:04:48.629641795Z","kind":"attempt_failed","failure":{"reason":"turns","message":"stopped at limits.turns = 2: the model still wanted tools","retryable":false}}');
CREATE TABLE journal (
    step_id BLOB    NOT NULL,
    seq     INTEGER NOT NULL,
    version INTEGER NOT NULL,
    kind    TEXT    NOT NULL,
    body    TEXT    NOT NULL,
    PRIMARY KEY (step_id, seq)
) STRICT, WITHOUT ROWID;
INSERT INTO "journal" VALUES(X'269016EEE9E88582A5CA79FA972CA24A',0,1,'model_result','{"seq":0,"attempt":1,"at":"2026-11-24T16:04:48.384454123Z","kind":"model_result","completion":{"text":"","tool_calls":[{"id":"script-1","name":"clock","arguments":{"zone":"Europe/Berlin"}}],"finish":"tool_calls","usage":{"input_tokens":122,"output_tokens":7,"cost_microusd":0},"provider":"scripted","model":"rules"}}');
INSERT INTO "journal" VALUES(X'269016EEE9E88582A5CA79FA972CA24A',1,1,'tool_result','{"seq":1,"attempt":1,"at":"2026-11-24T16:04:48.385976831Z","kind":"tool_result","call_id":"script-1","tool":"clock","content":"2026-11-24T16:04:48Z, Tuesday","is_error":false}');
INSERT INTO "journal" VALUES(X'269016EEE9E88582A5CA79FA972CA24A',2,1,'model_result','{"seq":2,"attempt":1,"at":"2026-11-24T16:04:48.386802210Z","kind":"model_result","completion":{"text":"","tool_calls":[{"id":"script-3","name":"wait","arguments":{"seconds":0.05}}],"finish":"tool_calls","usage":{"input_tokens":132,"output_tokens":5,"cost_microusd":0},"provider":"scripted","model":"rules"}}');
INSERT INTO "journal" VALUES(X'269016EEE9E88582A5CA79FA972CA24A',3,1,'tool_result','{"seq":3,"attempt":1,"at":"2026-11-24T16:04:48.439024468Z","kind":"tool_result","call_id":"script-3","tool":"wait","content":"waited 50ms","is_error":false}');
INSERT INTO "journal" VALUES(X'3FBC120F56758063AFD22B579C39B147',0,1,'attempt_failed','{"seq":0,"attempt":1,"at":"2026-11-24T16:04:48.475474524Z","kind":"attempt_failed","failure":{"reason":"model","message":"scripted/rules answered 503: rule 0 of the script says so","retryable":true}}');
INSERT INTO "journal" VALUES(X'3FBC120F56758063AFD22B579C39B147',1,1,'attempt_failed','{"seq":1,"attempt":2,"at":"2026-11-24T16:04:48.479379609Z","kind":"attempt_failed","failure":{"reason":"model","message":"scripted/rules answered 503: rule 0 of the script says so","retryable":true}}');
INSERT INTO "journal" VALUES(X'43C26DFF513E8011941DDFC8AC43A0F1',0,1,'model_result','{"seq":0,"attempt":1,"at":"2026-11-24T16:04:48.590012039Z","kind":"model_result","completion":{"text":"","tool_calls":[{"id":"script-1","name":"clock","arguments":{}}],"finish":"tool_calls","usage":{"input_tokens":66,"output_tokens":2,"cost_microusd":0},"provider":"scripted","model":"rules"}}');
INSERT INTO "journal" VALUES(X'43C26DFF513E8011941DDFC8AC43A0F1',1,1,'clarification_raised','{"seq":1,"attempt":1,"at":"2026-11-24T16:04:48.591101291Z","kind":"clarification_raised","clarification":{"id":"43c26dff-513e-8d32-9f57-069218bc82c3-0-1","category":"user_verification","guidance":"May this be done? clock {}","call_id":"script-1","action_digest":"5bd00271cb8aadcf810d4550647407efd6c6693ad0731bd3f9a3de3b3bf98ebb"}}');
INSERT INTO "journal" VALUES(X'5819B7A1CEEE870EA4E923231A2A8E77',0,1,'model_result','{"seq":0,"attempt":1,"at":"2026-11-24T16:04:48.663376471Z","kind":"model_result","completion":{"text":"","tool_calls":[{"id":"script-1","name":"wait","arguments":{"seconds":2}}],"finish":"tool_calls","usage":{"input_tokens":55,"output_tokens":5,"cost_microusd":0},"provider":"scripted","model":"rules"}}');
INSERT INTO "journal" VALUES(X'596F1E26BBFA801F9B2084C511D25CAA',0,1,'model_result','{"seq":0,"attempt":1,"at":"2026-11-24T16:04:48.554024979Z","kind":"model_result","completion":{"text":"","tool_calls":[{"id":"script-1","name":"clock","arguments":{}}],"finish":"tool_calls","usage":{"input_tokens":67,"output_tokens":2,"cost_microusd":0},"provider":"scripted","model":"rules"}}');
INSERT INTO "journal" VALUES(X'596F1E26BBFA801F9B2084C511D25CAA',1,1,'tool_result','{"seq":1,"attempt":1,"at":"2026-11-24T16:04:48.555346617Z","kind":"tool_result","call_id":"script-1","tool":"clock","content":"this agent may not call this tool","is_error":true}');
INSERT INTO "journal" VALUES(X'596F1E26BBFA801F9B2084C511D25CAA',2,1,'model_result','{"seq":2,"attempt":1,"at":"2026-11-24T16:04:48.556030916Z","kind":"model_result","completion":{"text":"","tool_calls":[{"id":"script-3","name":"nowhere","arguments":{"a":[1,0.1,null]}}],"finish":"tool_calls","usage":{"input_tokens":79,"output_tokens":6,"cost_microusd":0},"provider":"scripted","model":"rules"}}');
INSERT INTO "journal" VALUES(X'596F1E26BBFA801F9B2084C511D25CAA',3,1,'tool_result','{"seq":3,"attempt":1,"at":"2026-11-24T16:04:48.556591360Z","kind":"tool_result","call_id":"script-3","tool":"nowhere","content":"there is no tool \"nowhere\"; there are: clock","is_error":true}');
INSERT INTO "journal" VALUES(X'D452B019D2728708B622F71115E9E459',0,1,'model_result','{"seq":0,"attempt":1,"at":"2026-11-24T16:04:48.626648027Z","kind":"model_result","completion":{"text":"","tool_calls":[{"id":"script-1","name":"clock","arguments":{}}],"finish":"tool_calls","usage":{"input_tokens":70,"output_tokens":2,"cost_microusd":0},"provider":"scripted","model":"rules"}}');
INSERT INTO "journal" VALUES(X'D452B019D2728708B622F71115E9E459',1,1,'tool_result','{"seq":1,"attempt":1,"at":"2026-11-24T16:04:48.628480806Z","kind":"tool_result","call_id":"script-1","tool":"clock","content":"2026-11-24T16:04:48Z, Tuesday","is_error":false}');
INSERT INTO "journal" VALUES(X'D452B019D2728708B622F71115E9E459',2,1,'model_result','{"seq":2,"attempt":1,"at":"2026-11-24T16:04:48.629126437Z","kind":"model_result","completion":{"text":"","tool_calls":[{"id":"script-3","name":"clock","arguments":{}}],"finish":"tool_calls","usage":{"input_tokens":75,"output_tokens":2,"cost_microusd":0},"provider":"scripted","model":"rules"}}');
INSERT INTO "journal" VALUES(X'FEEA4544907380429D1B11550D7DF8E6',0,1,'attempt_failed','{"seq":0,"attempt":1,"at":"2026-11-24T16:04:48.517325286Z","kind":"attempt_failed","failure":{"reason":"model","message":"scripted/rules answered 503: rule 0 of the script says so","retryable":true}}');
CREATE TABLE nodes (
    name        TEXT    PRIMARY KEY NOT NULL,
    incarnation INTEGER NOT NULL,
    started_at  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO "nodes" VALUES('vm',1,1795536286358);
CREATE TABLE outbox (
    seq     INTEGER PRIMARY KEY AUTOINCREMENT,
    task_id BLOB NOT NULL,
    step_id BLOB NOT NULL
) STRICT;
CREATE TABLE pings (
    id INTEGER PRIMARY KEY,
    at INTEGER NOT NULL
) STRICT;
CREATE TABLE plan_run_states (
    run_id     BLOB    PRIMARY KEY NOT NULL,
    task_id    BLOB    NOT NULL,
    agent_id   TEXT    NOT NULL,
    state      TEXT    NOT NULL,
    plan       TEXT    NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE replies (
    task_id    BLOB    PRIMARY KEY NOT NULL,
    status     TEXT    NOT NULL,
    attempts   INTEGER NOT NULL,
    doubtful   INTEGER NOT NULL,
    ts         TEXT,
    last_error TEXT,
    updated_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE steps (
    id          BLOB    PRIMARY KEY NOT NULL,
    task_id     BLOB    NOT NULL,
    run_no      INTEGER NOT NULL,
    step_no     INTEGER NOT NULL,
    status      TEXT    NOT NULL,
    owner       INTEGER NOT NULL,
    epoch       INTEGER NOT NULL,
    attempts    INTEGER NOT NULL,
    claims      INTEGER NOT NULL,
    claimed_seq INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO "steps" VALUES(X'269016EEE9E88582A5CA79FA972CA24A',X'269016EEE9E88032BC23DC57652F0FD6',0,0,'succeeded',1,1,1,1,0);
INSERT INTO "steps" VALUES(X'3BB3F0210C8F8512889E13B1C3245990',X'3BB3F0210C8F8EFCA6C0125E3CAD557D',0,0,'succeeded',1,1,1,1,0);
INSERT INTO "steps" VALUES(X'3FBC120F56758063AFD22B579C39B147',X'3FBC120F567581B4A5825F453BCD317E',0,0,'succeeded',1,1,3,1,0);
INSERT INTO "steps" VALUES(X'43C26DFF513E8011941DDFC8AC43A0F1',X'43C26DFF513E8C55883AB980D6D441E6',0,0,'waiting',1,1,1,1,0);
INSERT INTO "steps" VALUES(X'5819B7A1CEEE870EA4E923231A2A8E77',X'5819B7A1CEEE88A690A688EF7164A2AB',0,0,'running',1,1,1,1,0);
INSERT INTO "steps" VALUES(X'596F1E26BBFA801F9B2084C511D25CAA',X'596F1E26BBFA8AD3A8A011EAFCD074E2',0,0,'succeeded',1,1,1,1,0);
INSERT INTO "steps" VALUES(X'D452B019D2728708B622F71115E9E459',X'D452B019D2728AA2A622097A9FA1FAB3',0,0,'failed',1,1,1,1,0);
INSERT INTO "steps" VALUES(X'FEEA4544907380429D1B11550D7DF8E6',X'FEEA4544907382E19B2E4CBCE293C95C',0,0,'failed',1,1,2,1,0);
CREATE TABLE tasks (
    seq            INTEGER PRIMARY KEY,
    id             BLOB    NOT NULL UNIQUE,
    agent_id       TEXT    NOT NULL,
    execution_mode TEXT    NOT NULL,
    spec_digest    TEXT    NOT NULL,
    step_id        BLOB    NOT NULL,
    event_id       TEXT    NOT NULL,
    topic          TEXT    NOT NULL,
    traceparent    TEXT    NOT NULL,
    priority       INTEGER NOT NULL,
    created_at     INTEGER NOT NULL,
    event          TEXT    NOT NULL
) STRICT;
INSERT INTO "tasks" VALUES(1,X'3BB3F0210C8F8EFCA6C0125E3CAD557D','writer','autonomous','ad642f81a4bae1f08a2f93c4b23c14cd1adcbea546490e395d67234c250e0da3',X'3BB3F0210C8F8512889E13B1C3245990','1356eabd-be7d-8a84-889c-30d97e4439aa','agent.task.writer','00-cf6a36426c938b021da924a3346d0e37-8634e051fedc39a7-01',5,1795536288346,'{"specversion":"1.0","id":"1356eabd-be7d-8a84-889c-30d97e4439aa","type":"agent.task.writer","source":"/api","time":"2026-11-24T16:04:48.344187164Z","traceparent":"00-cf6a36426c938b021da924a3346d0e37-8634e051fedc39a7-01","priority":5,"retrycount":0,"data":{"input":"hello","session":null}}');
INSERT INTO "tasks" VALUES(2,X'269016EEE9E88032BC23DC57652F0FD6','teller','autonomous','54453b879067ab88a2749bde1bb5595cbeb453a62403fd62f004a67f23766636',X'269016EEE9E88582A5CA79FA972CA24A','8a25e72b-2014-827d-9fe6-7e4133e20a6b','agent.task.teller','00-8bb4839ebbf6f30c18a2e579e1f3ead7-8dfa99a17a14b0df-01',5,1795536288381,'{"specversion":"1.0","id":"8a25e72b-2014-827d-9fe6-7e4133e20a6b","type":"agent.task.teller","source":"/api","time":"2026-11-24T16:04:48.379892576Z","traceparent":"00-8bb4839ebbf6f30c18a2e579e1f3ead7-8dfa99a17a14b0df-01","priority":5,"retrycount":0,"data":{"input":"what time is it?","session":null}}');
INSERT INTO "tasks" VALUES(3,X'3FBC120F567581B4A5825F453BCD317E','flaky','autonomous','cc57e651b657d7ef5010d1f380125993b08239bbd1c901071a0b89300051acf3',X'3FBC120F56758063AFD22B579C39B147','0b63826b-9023-852e-a6af-d9a1fcc7fe74','agent.task.flaky','00-3c3edf6f715a82062eb1131eaef6424b-d9f06a0e5513d1bb-01',5,1795536288472,'{"specversion":"1.0","id":"0b63826b-9023-852e-a6af-d9a1fcc7fe74","type":"agent.task.flaky","source":"/api","time":"2026-11-24T16:04:48.470800683Z","traceparent":"00-3c3edf6f715a82062eb1131eaef6424b-d9f06a0e5513d1bb-01","priority":5,"retrycount":0,"data":{"input":"try","session":null}}');
INSERT INTO "tasks" VALUES(4,X'FEEA4544907382E19B2E4CBCE293C95C','broken','autonomous','c61303e19b90ce33fc205c3bb4c7cf4efc8dc4fcfc63246e637aeb2b0828a2c8',X'FEEA4544907380429D1B11550D7DF8E6','398fd79c-67db-8a01-85e7-bf892a30c23e','agent.task.broken','00-6977c64589c9bd2605973f1251133f15-7525e5857d146647-01',5,1795536288514,'{"specversion":"1.0","id":"398fd79c-67db-8a01-85e7-bf892a30c23e","type":"agent.task.broken","source":"/api","time":"2026-11-24T16:04:48.512774590Z","traceparent":"00-6977c64589c9bd2605973f1251133f15-7525e5857d146647-01","priority":5,"retrycount":0,"data":{"input":"try","session":null}}');
INSERT INTO "tasks" VALUES(5,X'596F1E26BBFA8AD3A8A011EAFCD074E2','denied','autonomous','cf8b5617507c31567db81cffbaf39e4c29a7077ef18521fbb4c586716e1bfaaf',X'596F1E26BBFA801F9B2084C511D25CAA','cf5acc82-604f-89a0-a881-9a218a45bd70','agent.task.denied','00-ef0efd981382c0fb0bce92bb57bf17eb-90703ef0031596b3-01',5,1795536288551,'{"specversion":"1.0","id":"cf5acc82-604f-89a0-a881-9a218a45bd70","type":"agent.task.denied","source":"/api","time":"2026-11-24T16:04:48.550081947Z","traceparent":"00-ef0efd981382c0fb0bce92bb57bf17eb-90703ef0031596b3-01","priority":5,"retrycount":0,"data":{"input":"go","session":null}}');
INSERT INTO "tasks" VALUES(6,X'43C26DFF513E8C55883AB980D6D441E6','asker','autonomous','2a8388215074bb7999cbc8f05860fb40e4512dfc00bf2a86f5e6e13d1fd67d54',X'43C26DFF513E8011941DDFC8AC43A0F1','d2c80b7b-7aeb-8e10-9ecc-a028d4786da6','agent.task.asker','00-5421436ea5f75091b1a258abc341f069-d6722270860dcde9-01',5,1795536288587,'{"specversion":"1.0","id":"d2c80b7b-7aeb-8e10-9ecc-a028d4786da6","type":"agent.task.asker","source":"/api","time":"2026-11-24T16:04:48.586139022Z","traceparent":"00-5421436ea5f75091b1a258abc341f069-d6722270860dcde9-01","priority":5,"retrycount":0,"data":{"input":"go","session":null}}');
INSERT INTO "tasks" VALUES(7,X'D452B019D2728AA2A622097A9FA1FAB3','looper','autonomous','d76111708e9de07185145277de34055f3f8d6f4df0c01b9253e35577447c6bc9',X'D452B019D2728708B622F71115E9E459','d86d9968-48e8-8c2f-865d-75f41fdabe99','agent.task.looper','00-876969ef608e3f9950584a65cf383e71-42329e3fa9653137-01',5,1795536288624,'{"specversion":"1.0","id":"d86d9968-48e8-8c2f-865d-75f41fdabe99","type":"agent.task.looper","source":"/api","time":"2026-11-24T16:04:48.622537876Z","traceparent":"00-876969ef608e3f9950584a65cf383e71-42329e3fa9653137-01","priority":5,"retrycount":0,"data":{"input":"go","session":null}}');
INSERT INTO "tasks" VALUES(8,X'5819B7A1CEEE88A690A688EF7164A2AB','sleeper','autonomous','b3265795a63dbeb12961f0690d7712aed40300db77c4425d49d54614310c3466',X'5819B7A1CEEE870EA4E923231A2A8E77','3f23fd22-5011-82df-bf28-a5ad3401af0f','agent.task.sleeper','00-42f4977f915fb8cd163b0c15d65e3879-1ced3b1d2245f167-01',5,1795536288661,'{"specversion":"1.0","id":"3f23fd22-5011-82df-bf28-a5ad3401af0f","type":"agent.task.sleeper","source":"/api","time":"2026-11-24T16:04:48.659888998Z","traceparent":"00-42f4977f915fb8cd163b0c15d65e3879-1ced3b1d2245f167-01","priority":5,"retrycount":0,"data":{"input":"sleep","session":null}}');
CREATE INDEX tasks_by_agent ON tasks (agent_id);
CREATE INDEX steps_open ON steps (status, owner) WHERE status IN ('running', 'waiting');
CREATE INDEX execution_results_by_agent ON execution_results (agent_id, execution_timestamp);
CREATE INDEX bus_messages_order ON bus_messages (queue, rank, seq);
CREATE INDEX bus_retries_due ON bus_retries (due_at) WHERE due_at > 0;
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('outbox',6);
COMMIT;