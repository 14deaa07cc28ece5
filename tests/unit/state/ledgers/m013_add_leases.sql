BEGIN TRANSACTION;
CREATE TABLE answers (
                name text primary key,
                task_key text not null,
                shard text,
                answers integer not null,
                created_at text not null
            , settings text) strict
            ;
INSERT INTO "answers" VALUES('s1','t1','s1',3,'2026-11-23T20:00:00.000000+00:00',NULL);
INSERT INTO "answers" VALUES('s1-missing','t1','s1',0,'2026-11-23T20:00:00.000000+00:00',NULL);
CREATE TABLE batches (
                shard text primary key,
                step text not null,
                owner text,
                namespace text not null,
                service text not null,
                enrichment text,
                task_key text not null,
                model text,
                deployment text,
                requests integer not null default 0,
                bytes integer not null default 0,
                input_file_id text,
                batch_id text,
                output_file_id text,
                error_file_id text,
                status text,
                completed integer not null default 0,
                failed integer not null default 0,
                prompt_tokens integer,
                cached_tokens integer,
                completion_tokens integer,
                error text,
                created_at text not null,
                updated_at text not null
            , cancel_requested_at text, estimated_prompt_tokens integer, estimated_completion_tokens integer, rows integer, synchronous integer not null default 0, uploads_sought integer not null default 0, settings text, max_failed_share real, least_answers integer, endpoint text not null default 'chat', reasoning_tokens integer) strict
            ;
INSERT INTO "batches" VALUES('s1','stored','run-1','shop','azure:res.openai.azure.com','model.shop.notes','t1','gpt-4o-mini','gpt-4o-mini-batch',3,900,'file-1','batch_1','file-2','file-3','completed',3,0,90,0,30,NULL,'2026-11-23T20:00:00.000000+00:00','2026-11-23T20:00:00.000000+00:00',NULL,NULL,NULL,NULL,0,0,NULL,NULL,NULL,'chat',NULL);
INSERT INTO "batches" VALUES('s2','submitted','run-2','shop','azure:res.openai.azure.com','model.shop.notes','t1','gpt-4o-mini','gpt-4o-mini-batch',2,600,'file-4','batch_2',NULL,NULL,'in_progress',1,0,NULL,NULL,NULL,NULL,'2026-11-23T20:00:00.000000+00:00','2026-11-23T20:00:00.000000+00:00',NULL,NULL,NULL,NULL,0,0,NULL,NULL,NULL,'chat',NULL);
INSERT INTO "batches" VALUES('s3','creating','run-2','shop','azure:res.openai.azure.com','model.shop.notes','t1','gpt-4o-mini','gpt-4o-mini-batch',1,300,'file-5',NULL,NULL,NULL,NULL,0,0,NULL,NULL,NULL,NULL,'2026-11-23T20:00:00.000000+00:00','2026-11-23T20:00:00.000000+00:00',NULL,NULL,NULL,NULL,0,0,NULL,NULL,NULL,'chat',NULL);
INSERT INTO "batches" VALUES('s4','released',NULL,'shop','azure:res.openai.azure.com','model.shop.notes','t1','gpt-4o-mini','gpt-4o-mini-batch',1,0,NULL,NULL,NULL,NULL,NULL,0,0,NULL,NULL,NULL,'never submitted','2026-11-23T20:00:00.000000+00:00','2026-11-23T20:00:00.000000+00:00',NULL,NULL,NULL,NULL,0,0,NULL,NULL,NULL,'chat',NULL);
CREATE TABLE contents (
                relation text primary key,
                basis text not null,
                files text not null,
                rows text not null
            ) strict
            ;
CREATE TABLE events (
                id integer primary key autoincrement,
                at text not null,
                shard text not null,
                step text not null,
                owner text,
                detail text
            ) strict
            ;
INSERT INTO "events" VALUES(1,'2026-11-23T20:00:00.000000+00:00','s1','claimed','run-1','{"attempt": 1}');
INSERT INTO "events" VALUES(2,'2026-11-23T20:00:00.000000+00:00','s1','exported','run-1',NULL);
INSERT INTO "events" VALUES(3,'2026-11-23T20:00:00.000000+00:00','s1','uploading','run-1',NULL);
INSERT INTO "events" VALUES(4,'2026-11-23T20:00:00.000000+00:00','s1','uploaded','run-1',NULL);
INSERT INTO "events" VALUES(5,'2026-11-23T20:00:00.000000+00:00','s1','creating','run-1',NULL);
INSERT INTO "events" VALUES(6,'2026-11-23T20:00:00.000000+00:00','s1','submitted','run-1',NULL);
INSERT INTO "events" VALUES(7,'2026-11-23T20:00:00.000000+00:00','s1','ended','run-1',NULL);
INSERT INTO "events" VALUES(8,'2026-11-23T20:00:00.000000+00:00','s1','downloaded','run-1',NULL);
INSERT INTO "events" VALUES(9,'2026-11-23T20:00:00.000000+00:00','s1','stored','run-1',NULL);
INSERT INTO "events" VALUES(10,'2026-11-23T20:00:00.000000+00:00','s2','claimed','run-1','{"attempt": 1}');
INSERT INTO "events" VALUES(11,'2026-11-23T20:00:00.000000+00:00','s2','exported','run-1',NULL);
INSERT INTO "events" VALUES(12,'2026-11-23T20:00:00.000000+00:00','s2','uploading','run-1',NULL);
INSERT INTO "events" VALUES(13,'2026-11-23T20:00:00.000000+00:00','s2','uploaded','run-1',NULL);
INSERT INTO "events" VALUES(14,'2026-11-23T20:00:00.000000+00:00','s2','creating','run-1',NULL);
INSERT INTO "events" VALUES(15,'2026-11-23T20:00:00.000000+00:00','s2','submitted','run-1',NULL);
INSERT INTO "events" VALUES(16,'2026-11-23T20:00:00.000000+00:00','s3','claimed','run-1','{"attempt": 1}');
INSERT INTO "events" VALUES(17,'2026-11-23T20:00:00.000000+00:00','s3','exported','run-1',NULL);
INSERT INTO "events" VALUES(18,'2026-11-23T20:00:00.000000+00:00','s3','uploading','run-1',NULL);
INSERT INTO "events" VALUES(19,'2026-11-23T20:00:00.000000+00:00','s3','uploaded','run-1',NULL);
INSERT INTO "events" VALUES(20,'2026-11-23T20:00:00.000000+00:00','s3','creating','run-1',NULL);
INSERT INTO "events" VALUES(21,'2026-11-23T20:00:00.000000+00:00','s4','claimed','run-1','{"attempt": 1}');
INSERT INTO "events" VALUES(22,'2026-11-23T20:00:00.000000+00:00','s4','released','run-1',NULL);
CREATE TABLE forgotten (task_key text primary key, at text not null) strict;
CREATE TABLE identity (id text primary key) strict;
INSERT INTO "identity" VALUES('0123456789abcdef0123456789abcdef');
CREATE TABLE leases (
                run text primary key,
                term integer not null,
                host text not null,
                began_at text not null,
                expires_at real not null
            ) strict
            ;
CREATE TABLE locks (name text primary key, run text not null) strict;
CREATE TABLE migrations (number integer primary key, name text not null, applied_at text not null) strict;
INSERT INTO "migrations" VALUES(1,'m001_create_tables','2026-11-23 20:00:00');
INSERT INTO "migrations" VALUES(2,'m002_add_token_limits','2026-11-23 20:00:00');
INSERT INTO "migrations" VALUES(3,'m003_add_cost','2026-11-23 20:00:00');
INSERT INTO "migrations" VALUES(4,'m004_add_what_reports_show','2026-11-24 02:00:00');
INSERT INTO "migrations" VALUES(5,'m005_add_rows','2026-11-25 20:56:18');
INSERT INTO "migrations" VALUES(6,'m006_add_synchronous_shards','2026-11-26 03:00:00');
INSERT INTO "migrations" VALUES(7,'m007_add_uploads_sought','2026-11-26 04:00:00');
INSERT INTO "migrations" VALUES(8,'m008_add_settings','2026-11-29 04:00:00');
INSERT INTO "migrations" VALUES(9,'m009_add_target','2026-11-29 10:00:00');
INSERT INTO "migrations" VALUES(10,'m010_add_stops','2026-11-29 04:00:00');
INSERT INTO "migrations" VALUES(11,'m011_add_contents','2026-11-29 15:41:54');
INSERT INTO "migrations" VALUES(12,'m012_add_endpoint','2026-11-29 18:46:52');
INSERT INTO "migrations" VALUES(13,'m013_add_leases','2026-11-29 19:00:00');
CREATE TABLE publications (
                enrichment text primary key,
                name text not null,
                model text not null,
                task_key text not null,
                counts text not null,
                published_at text not null
            , relation text, max_attempts integer, ask_again text not null default '[]', target text) strict
            ;
CREATE TABLE retries (
                id integer primary key autoincrement,
                enrichment text not null,
                kind text not null,
                at text not null
            ) strict
            ;
CREATE TABLE statuses (
                shard text not null,
                status text not null,
                at text not null,
                primary key (shard, status)
            ) strict
            ;
INSERT INTO "statuses" VALUES('s1','in_progress','2026-11-24T02:00:00.000000+00:00');
CREATE TABLE stops (
                id integer primary key autoincrement,
                task_key text not null,
                enrichment text,
                settings text not null,
                kind text not null,
                status integer,
                said text not null,
                failed integer not null,
                answers integer not null,
                message text not null,
                began_at text not null,
                at text not null,
                lifted_at text
            ) strict
            ;
CREATE TABLE tasks (
                task_key text primary key,
                enrichment text not null,
                document text not null,
                outputs text not null,
                first_seen_at text not null
            ) strict
            ;
INSERT INTO "tasks" VALUES('t1','model.shop.notes','{"key_version": 1}','[{"name": "summary", "data_type": "varchar"}]','2026-11-23T20:00:00.000000+00:00');
CREATE TABLE token_limits (
                service text not null,
                deployment text not null,
                max_enqueued_tokens integer not null,
                source text not null,
                learned_at text not null,
                primary key (service, deployment)
            ) strict
            ;
CREATE INDEX batches_by_step on batches (step);
CREATE INDEX answers_by_task on answers (task_key);
CREATE INDEX stops_by_task on stops (task_key);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('events',22);
COMMIT;
