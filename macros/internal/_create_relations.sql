{% macro _create_relations() %}
  {%- do dbt_enrich._refuse_server() -%}
  {%- if not execute -%}
    {{ return(dbt_enrich._no_statement()) }}
  {%- endif -%}
  {%- if not dbt_enrich._has_plugin() -%}
    {%- do dbt_enrich._create_work_schemas() -%}
    {{ return(dbt_enrich._no_statement()) }}
  {%- endif -%}
  {%- set relations = dbt_enrich._enrichment_schema() -%}

  -- `BEGIN` happens here:
  {% call statement('create_relations') -%}
    {% if relations.schema %}
      create schema if not exists {{ relations.schema }};
    {% endif %}
    create table if not exists {{ relations.batches }} (
      batch_id varchar,
      shard varchar,
      enrichment varchar,
      model varchar,
      deployment varchar,
      service varchar,
      endpoint varchar,
      task_key varchar,
      enrichment_version varchar,
      status varchar,
      step varchar,
      synchronous boolean,
      requests bigint,
      rows bigint,
      completed bigint,
      failed bigint,
      prompt_tokens bigint,
      cached_tokens bigint,
      completion_tokens bigint,
      reasoning_tokens bigint,
      cost double,
      saved double,
      currency varchar,
      created_at timestamp with time zone,
      updated_at timestamp with time zone
    );
    create table if not exists {{ relations.attempts }} (
      enrichment varchar,
      enrichment_key uuid,
      attempt integer,
      kind varchar,
      message varchar,
      enrichment_model varchar,
      enrichment_batch_id varchar,
      enrichment_version varchar,
      prompt_tokens bigint,
      cached_tokens bigint,
      completion_tokens bigint,
      reasoning_tokens bigint,
      received_at timestamp with time zone
    );
    create table if not exists {{ relations.usage }} (
      day date,
      enrichment varchar,
      model varchar,
      enrichment_version varchar,
      requests bigint,
      rows bigint,
      completed bigint,
      failed bigint,
      prompt_tokens bigint,
      cached_tokens bigint,
      completion_tokens bigint,
      reasoning_tokens bigint,
      cost double,
      saved double,
      currency varchar
    )
  {%- endcall %}

  -- `COMMIT` happens here
  {{ adapter.commit() }}
  {{ return(dbt_enrich._no_statement()) }}
{% endmacro %}
